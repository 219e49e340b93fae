// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What clients see of structured replies and metadata contexts of images whose contents are known.
@Suite(.fewAtATime)
struct ReadFeatureTests {
    /// A chain of two images with data, zeros and a dirty bitmap.
    private func withChain(
        _ arguments: [String] = [], _ body: (ServerUnderTest, String, TemporaryDirectory) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = directory.file("top.qcow2")
        try await Tool.shell(
            """
            cd \(directory.path)
            qemu-img create -q -f qcow2 base.qcow2 16M
            qemu-io -c 'write -P 5 0 1M' -c 'write -P 6 10M 3M' -c 'write -z 14M 1M' base.qcow2
            qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
            qemu-io -c 'write -P 9 512k 1M' top.qcow2
            qemu-img bitmap --add -g 64k --enable top.qcow2 since
            qemu-img bitmap --add -g 64k --enable top.qcow2 other
            qemu-io -c 'write -P 3 8M 200k' top.qcow2
            """)
        try await ServerUnderTest.run(
            ["serve", image, "--socket", directory.file("s")] + arguments, in: directory
        ) { try await body($0, image, directory) }
    }

    @Test func `nbdinfo lists the contexts and what the export can`() async throws {
        try await withChain { server, _, _ in
            let text = try await Tool.succeed("nbdinfo", ["--list", "--json", server.uri])
            let contexts =
                #""contexts": ["base:allocation","qemu:allocation-depth","qemu:dirty-bitmap:since","qemu:dirty-bitmap:other"]"#
            #expect(text.filter { !$0.isWhitespace }.contains(contexts.filter { !$0.isWhitespace }), "\(text)")
            for feature in ["connect", "cache", "df", "flush", "multi-conn", "read", "structured-reply"] {
                #expect(try await Tool.run("nbdinfo", ["--can", feature, server.uri]).code == 0, "\(feature)")
            }
            for feature in ["fast-zero", "fua", "trim", "write", "zero", "rotational"] {
                #expect(try await Tool.run("nbdinfo", ["--can", feature, server.uri]).code == 2, "\(feature)")
            }
        }
    }

    @Test func `the maps of nbdinfo and qemu-img are those of the image`() async throws {
        try await withChain { server, _, _ in
            func map(_ context: String) async throws -> String {
                try await Tool.succeed("nbdinfo", ["--map=\(context)", server.uri]).split(separator: "\n").map {
                    $0.split(separator: " ").prefix(3).joined(separator: " ")
                }.joined(separator: ", ")
            }
            // The rest of the last cluster was made as a hole of the file.
            let mega = 1 << 20
            let tail = 200 << 10
            let end = 256 << 10
            let allocation = try await map("base:allocation")
            #expect(
                allocation
                    == "0 \(mega * 3 / 2) 0, \(mega * 3 / 2) \(mega * 13 / 2) 3, \(8 * mega) \(tail) 0, "
                    + "\(8 * mega + tail) \(end - tail) 2, \(8 * mega + end) \(2 * mega - end) 3, "
                    + "\(10 * mega) \(3 * mega) 0, \(13 * mega) \(3 * mega) 3")
            let depth = try await map("qemu:allocation-depth")
            #expect(
                depth
                    == "0 \(mega / 2) 2, \(mega / 2) \(mega) 1, \(mega * 3 / 2) \(mega * 13 / 2) 0, "
                    + "\(8 * mega) \(end) 1, \(8 * mega + end) \(2 * mega - end) 0, \(10 * mega) \(3 * mega) 2, "
                    + "\(13 * mega) \(mega) 0, \(14 * mega) \(mega) 2, \(15 * mega) \(mega) 0")
            for name in ["since", "other"] {
                let dirty = try await map("qemu:dirty-bitmap:\(name)")
                #expect(
                    dirty
                        == "0 \(8 * mega) 0, \(8 * mega) \(end) 1, \(8 * mega + end) \(8 * mega - end) 0")
            }
        }
    }

    @Test func `reads come in chunks with holes; with DF, in one`() async throws {
        try await withChain { server, _, _ in
            let text = try await NBDShell.run(
                server.uri,
                """
                chunks = []
                def f(data, offset, status, error): chunks.append((offset, len(data), status))
                h.pread_structured(2 << 20, 0, f)
                h.pread_structured(5000, (3 << 19) - 100, f)
                h.pread_structured(2 << 20, 0, f, nbd.CMD_FLAG_DF)
                print(chunks)
                """)
            // 1 is data, 2 a hole; a hole consists of whole blocks of 4096 bytes.
            #expect(
                text.trimmingCharacters(in: .whitespacesAndNewlines)
                    == "[(0, 1572864, 1), (1572864, 524288, 2), (1572764, 100, 1), (1572864, 4096, 2), "
                    + "(1576960, 804, 1), (0, 2097152, 1)]")
        }
    }

    @Test func `--bitmap insists on a bitmap and offers no other; one that is not there is named`() async throws {
        try await withChain(["--bitmap", "since"]) { server, image, _ in
            let text = try await Tool.succeed("nbdinfo", ["--list", server.uri])
            #expect(text.contains("qemu:dirty-bitmap:since") && !text.contains("qemu:dirty-bitmap:other"))
            let outcome = try await Tool.run(
                try Program.path, ["serve", image, "--bitmap", "missing", "--run", "true"])
            #expect(outcome.code == 64)
            #expect(outcome.errors.contains("has no dirty bitmap missing; it has since, other"), "\(outcome.errors)")
        }
    }

    @Test func `a bitmap of an image that was not closed properly is refused by its name, or left out with a warning`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = directory.file("disk.qcow2")
        // A server that is killed leaves the bitmap that it has taken in use.
        try await Tool.shell(
            """
            cd \(directory.path)
            qemu-img create -q -f qcow2 disk.qcow2 4M
            qemu-img bitmap --add --enable disk.qcow2 broken
            qemu-nbd -t -f qcow2 -k \(directory.file("q")) --fork --pid-file=pid disk.qcow2
            qemu-io -f raw 'nbd+unix:///?socket=\(directory.file("q"))' -c 'write 0 64k' -c flush
            kill -KILL $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.05; done
            """)
        let insisting = try await Tool.run(try Program.path, ["serve", image, "--bitmap", "broken", "--run", "true"])
        #expect(insisting.code != 0)
        #expect(insisting.errors.contains("broken") && insisting.errors.contains("qemu-img bitmap --remove"))
        try await ServerUnderTest.run(["serve", image, "--socket", directory.file("s")], in: directory) { server in
            #expect(try server.errors.contains("broken"))
            let text = try await Tool.succeed("nbdinfo", ["--list", server.uri])
            #expect(!text.contains("qemu:dirty-bitmap"))
        }
    }

    @Test func `requests up to --max-request are served, whatever is advertised; longer ones are refused`() async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        // As the tester of the nbd project sends it.
        let count = 49_865_728
        let disk = DiskContents(mark: 4).bytes(at: 0, count: count, .noise)
        let image = try directory.write("disk.raw", disk)
        let script = """
            import hashlib
            assert h.get_block_size(nbd.SIZE_MAXIMUM) == %MAXIMUM
            h.set_strict_mode(0)
            print(hashlib.sha256(h.pread(%COUNT, 0)).hexdigest())
            """
        func read(_ server: ServerUnderTest, _ maximum: Int) async throws -> String {
            try await NBDShell.run(
                server.uri, script.replacing("%MAXIMUM", with: "\(maximum)").replacing("%COUNT", with: "\(count)"))
        }
        let digest = try await Tool.succeed("sha256sum", [image]).prefix(64)
        try await ServerUnderTest.run(["serve", "-f", "raw", image, "--socket", directory.file("s")], in: directory) {
            let found = try await read($0, 32 << 20)
            #expect(found.hasPrefix(digest))
        }
        try await ServerUnderTest.run(
            ["serve", "-f", "raw", image, "--max-request", "1M", "--socket", directory.file("s")], in: directory
        ) { server in
            await #expect(throws: Tool.Failed.self) { _ = try await read(server, 1 << 20) }
            try await NBDShell.run(server.uri, "h.pread(1 << 20, 0)")
        }
    }

    @Test func `--detect-zeroes finds zeros behind LUKS, so that copies are small; without it, all is data`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = directory.file("disk.luks")
        let size = 32 << 20
        try await Tool.shell(
            """
            cd \(directory.path)
            printf secret > key
            # On a busy machine, QEMU may fail to measure how fast it is.
            until qemu-img create -q -f luks --object secret,id=k,file=key -o key-secret=k,iter-time=10 disk.luks \(size) \
            2> errors; do grep -q 'Unable to get accurate CPU usage' errors || { cat errors >&2; exit 1; }; done
            truncate -s \(size) plain.raw
            printf start | dd of=plain.raw conv=notrunc status=none
            printf end | dd of=plain.raw bs=1 seek=\(20 << 20) conv=notrunc status=none
            qemu-img convert -n --object secret,id=k,file=key --image-opts --target-image-opts -S 0 \
            driver=raw,file.filename=plain.raw driver=luks,file.filename=disk.luks,key-secret=k
            """)
        let base = ["serve", image, "--passphrase-file", directory.file("key"), "--socket", directory.file("s")]
        try await ServerUnderTest.run(base, in: directory) { server in
            let map = try await Tool.succeed("nbdinfo", ["--map", "--json", server.uri])
            #expect(!map.contains("zero"), "\(map)")
        }
        try await ServerUnderTest.run(base + ["--detect-zeroes"], in: directory) { server in
            let map = try await Tool.succeed("nbdinfo", ["--map", server.uri]).split(separator: "\n").map {
                $0.split(separator: " ").prefix(3).joined(separator: " ")
            }
            let second = 20 << 20
            #expect(
                map == [
                    "0 4096 0", "4096 \(second - 4096) 2", "\(second) 4096 0",
                    "\(second + 4096) \(size - second - 4096) 2",
                ])
            for (tool, arguments) in [
                ("nbdcopy", [server.uri, directory.file("nbdcopy.raw")]),
                ("qemu-img", ["convert", "-O", "raw", server.uri, directory.file("qemu-img.raw")]),
            ] {
                try await Tool.succeed(tool, arguments)
                let copy = directory.file("\(tool).raw")
                #expect(try File.contents(copy) == File.contents(directory.file("plain.raw")))
                let kibibytes = try await Tool.succeed("du", ["-k", copy]).split(separator: "\t")
                #expect(try #require(Int(kibibytes[0])) < 1024, "\(tool)")
            }
        }
    }
}
