// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `serve --writable` of images of all formats; QEMU reads them again.
@Suite(.fewAtATime)
struct WrittenImageTests {
    /// Gives `body` the image of a shape, and afterwards compares what QEMU reads with `expected`, and has QEMU check it.
    private func withImage(
        _ shape: WritingShape,
        _ body: (ShapeChain, TemporaryDirectory, _ before: Data) async throws -> Data?
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let chain = try await shape.make(in: directory)
        let before = try await chain.oracle(in: directory)
        let base = try chain.layers.dropFirst().map { try File.contents($0.path) }
        let expected = try await body(chain, directory, before)
        try await expectSound(shape, chain)
        if let expected {
            let found = try await chain.oracle(in: directory)
            #expect(Difference.describe(found, expected) == nil, "\(shape)")
        }
        if shape.base == .snapshot {
            try await Tool.succeed(
                "qemu-img", ["snapshot", "-q"] + chain.objectArguments + ["-a", "before", chain.name])
            let found = try await chain.oracle(in: directory)
            #expect(Difference.describe(found, before) == nil, "the snapshot of \(shape)")
        }
        if shape.base == .rawDataFile, let path = chain.layers[0].dataFile, let expected {
            #expect(Difference.describe(try File.contents(path).prefix(expected.count), expected) == nil, "data file")
        }
        #expect(try chain.layers.dropFirst().map { try File.contents($0.path) } == base, "nobody writes to it")
    }

    private func expectSound(_ shape: WritingShape, _ chain: ShapeChain) async throws {
        guard shape.kind.isQcow2 else { return }
        let check = try await Tool.run("qemu-img", ["check"] + chain.objectArguments + [chain.name])
        #expect(check.code == 0, "\(shape): \(check.output)\(check.errors)")
    }

    @Test(arguments: WritingShape.all)
    func `ten thousand random verbs leave what they should, by QEMU's reading`(_ shape: WritingShape) async throws {
        try await withImage(shape) { chain, directory, before in
            let model = try directory.write("model", before)
            try await ServerUnderTest.run(shape.serve(chain, in: directory), in: directory) { server in
                let outcome = try await Tool.run(
                    "/usr/bin/python3",
                    [
                        Program.helper("random_writes.py"), server.uri, "\(shape.clusterSize)", "10000", "1", model,
                    ], seconds: 600)
                #expect(outcome.code == 0, "\(shape): \(outcome.output)\(outcome.errors)")
            }
            return try File.contents(model)
        }
    }

    @Test(arguments: WritingShape.few)
    func `bytes that share sectors and clusters are written by four clients at once`(_ shape: WritingShape) async throws
    {
        try await withImage(shape) { chain, directory, _ in
            try await ServerUnderTest.run(shape.serve(chain, in: directory), in: directory) { server in
                try await Tool.succeed(
                    "/usr/bin/python3", [Program.helper("shared_sectors.py"), server.uri, "12"], seconds: 300)
            }
            return nil
        }
    }

    @Test(arguments: WritingShape.few)
    func `fio, qemu-io, qemu-img convert, nbdcopy and ddrescue-like copies write what they read again`(
        _ shape: WritingShape
    ) async throws {
        try await withImage(shape) { chain, directory, before in
            let size = before.count
            let other = DiskContents(mark: 0x77).bytes(at: 0, count: size, .noise)
            let source = try directory.write("other.raw", other)
            var last = Data()
            try await ServerUnderTest.run(shape.serve(chain, in: directory), in: directory) { server in
                try await Tool.succeed(
                    "fio",
                    [
                        "--name=verify", "--ioengine=nbd", "--uri=\(server.uri)", "--rw=randrw", "--bs=512-64k",
                        "--iodepth=8", "--size=\(size / 4 / 4096 * 4096)", "--numjobs=4", "--offset_increment=25%",
                        "--verify=crc32c", "--do_verify=1", "--randrepeat=1", "--verify_state_save=0",
                    ], environment: ["TMPDIR": directory.path], seconds: 300)
                let patterns = try await Tool.succeed(
                    "qemu-io",
                    [
                        "-f", "raw", server.uri, "-c", "write -P 7 1000 300000", "-c", "read -P 7 1000 300000", "-c",
                        "write -z 1M 1M", "-c", "read -P 0 1M 1M", "-c", "discard 2M 1M", "-c", "aio_write -P 9 3M 64k",
                        "-c", "aio_flush", "-c", "read -P 9 3M 64k", "-c", "write -f -P 8 9k 1k", "-c",
                        "read -P 8 9k 1k",
                    ])
                #expect(!patterns.contains("failed"), "\(shape): \(patterns)")
                try await Tool.succeed("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", source, server.uri])
                try server.expect(other)
                let sparse = directory.file("sparse.raw")
                try await Tool.shell(
                    "truncate -s \(size) \(sparse); printf end | dd of=\(sparse) seek=900000 bs=1 conv=notrunc status=none"
                )
                try await Tool.succeed("nbdcopy", [sparse, server.uri])
                last = try File.contents(sparse)
                try server.expect(last)
            }
            return last
        }
    }

    @Test(arguments: WritingShape.few)
    func `two writers are kept apart, and the second is told who is the first`(_ shape: WritingShape) async throws {
        try await withImage(shape) { chain, directory, before in
            let second = shape.serve(chain, in: directory) + ["--run", "true"]
            try await ServerUnderTest.run(shape.serve(chain, in: directory), in: directory) { server in
                try await Program.expectRefusal(
                    Array(second.filter { $0 != directory.file("s") && $0 != "--socket" }), status: 66,
                    saying: "another program uses the image (nbdecrypt, process \(server.processIdentifier))")
                let qemu = try await Tool.run("qemu-io", chain.objectArguments + [chain.name, "-c", "write 0 512"])
                #expect(qemu.code != 0 && qemu.errors.contains("lock"), "\(qemu.errors)")
            }
            let pidFile = directory.file("q.pid")
            try await Tool.shell(
                "qemu-nbd \(chain.objectArguments.joined(separator: " ")) -k \(directory.file("q")) --fork "
                    + "--pid-file=\(pidFile) '\(chain.name)' 2>&1 | cat")
            let pid = try File.text(pidFile).trimmingCharacters(in: .newlines)
            let refused = try await Tool.run(
                try Program.path, second.filter { $0 != directory.file("s") && $0 != "--socket" })
            try await Tool.shell("kill \(pid); while kill -0 \(pid) 2>/dev/null; do sleep 0.02; done")
            #expect(refused.code == 66 && refused.errors.contains("(qemu-nbd, process \(pid))"), "\(refused.errors)")
            return before
        }
    }

    @Test(arguments: WritingShape.few.map { ($0, 1) })
    func `a server that is killed in the middle of writes leaves a sound image with all that was flushed`(
        _ shape: WritingShape, _ seed: Int
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = ShapeMaker(directory: directory)
        let size = 8 << 20
        let options = shape.kind.isQcow2 ? ["cluster_size=\(shape.clusterSize)"] : []
        let chain = ShapeChain(
            layers: [try await maker.create(shape.kind, "top", size: size, options: options)])
        if !shape.kind.isQcow2 { try await chain.io(["write -P 0 0 \(size)"]) }
        // As the script has the shell run them.
        let words = (chain.objectArguments + [chain.name]).map { "'\($0)'" }.joined(separator: " ")
        let check = shape.kind.isQcow2 ? "qemu-img check \(words)" : "true"
        let server = try [Program.path] + shape.serve(chain, in: directory)
        let outcome = try await Tool.run(
            "/usr/bin/python3",
            [
                Program.helper("killed_writes.py"), "40", "\(seed)", "\(size)", directory.path, check,
                "qemu-img convert -O raw \(words) \(directory.file("out"))",
            ] + server, seconds: 300)
        #expect(outcome.code == 0, "\(shape): \(outcome.output)\(outcome.errors)")
        // It was killed in the middle of something.
        #expect((Int(outcome.output.trimmingCharacters(in: .newlines)) ?? 0) > 100)
    }

    @Test func `what is written and not flushed is on disk when the server has ended`() async throws {
        try await withImage(WritingShape(kind: .qcow2LUKS)) { chain, directory, before in
            var expected = before
            expected.replaceSubrange(700..<900_700, with: Data(repeating: 0x77, count: 900_000))
            let shape = WritingShape(kind: .qcow2LUKS)
            try await ServerUnderTest.run(shape.serve(chain, in: directory), in: directory) { server in
                try await NBDShell.run(server.uri, "h.pwrite(b'w' * 900000, 700)")
            }
            return expected
        }
    }

    @Test(arguments: [WritingShape(kind: .raw)] + WritingShape.few.filter { $0.kind.isQcow2 })
    func `a limit of the size of files is ENOSPC for the client, and writing goes on when it is raised`(
        _ shape: WritingShape
    ) async throws {
        try await withImage(shape) { chain, directory, before in
            let model = try directory.write("model", before)
            // The signal as it is by default, whatever this process has inherited.
            let limit = try File.size(chain.path) / 2
            let program = try ["--default-signal=XFSZ", "prlimit", "--fsize=\(limit):unlimited", Program.path]
            try await ServerUnderTest.run(
                program + shape.serve(chain, in: directory), program: "env", in: directory
            ) { server in
                try await NBDShell.run(
                    server.uri,
                    """
                    import errno, subprocess
                    model = bytearray(open('\(model)', 'rb').read())
                    full = 0
                    def write(start, byte):
                        global full
                        count = min(100000, len(model) - start)
                        try:
                            h.pwrite(byte * count, start)
                            model[start:start + count] = byte * count
                        except nbd.Error as error:
                            assert error.errnum == errno.ENOSPC, error
                            full += 1
                            # Any part of it may have been written.
                            model[start:start + count] = h.pread(count, start)
                    for start in range(0, len(model), 100000): write(start, b'a')
                    assert full > 0
                    assert h.pread(1 << 20, 0) == model[:1 << 20]
                    subprocess.run(['prlimit', '--pid', '\(server.processIdentifier)', '--fsize=unlimited:unlimited'], check=True)
                    full = 0
                    for start in range(0, len(model), 100000): write(start, b'b')
                    assert full == 0
                    h.flush()
                    open('\(model)', 'wb').write(model)
                    """)
            }
            return try File.contents(model)
        }
    }
}
