// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `serve --writable`: what clients change is in the file.
@Suite(.fewAtATime)
struct WritableExportTests {
    private static let size = 24 << 20

    private func withWritable(
        _ arguments: [String] = [], _ body: (ServerUnderTest, String, TemporaryDirectory) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("disk.raw", DiskContents(mark: 3).bytes(at: 0, count: Self.size, .noise))
        try await ServerUnderTest.run(
            ["serve", "-f", "raw", "--writable", image, "--socket", directory.file("s")] + arguments, in: directory
        ) { try await body($0, image, directory) }
    }

    @Test func `libnbd writes, zeroes, trims, caches and flushes with every flag, and the file has it`() async throws {
        try await withWritable { server, image, _ in
            var expected = try File.contents(image)
            try await NBDShell.run(
                server.uri,
                """
                assert not h.is_read_only() and h.can_flush() and h.can_fua() and h.can_trim() and h.can_zero()
                assert h.can_fast_zero() and h.can_cache() and h.can_multi_conn() and h.can_df()
                assert h.get_structured_replies_negotiated()
                h.pwrite(b'a' * 3000001, 12345)
                h.pwrite(b'b' * 512, 0, nbd.CMD_FLAG_FUA)
                h.pwrite(b'c' * (9 << 20), 4 << 20)
                h.zero(70001, 5 << 20)
                h.zero(8192, 6 << 20, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
                h.zero(65536, 7 << 20, nbd.CMD_FLAG_FAST_ZERO)
                h.trim(1 << 20, 20 << 20, nbd.CMD_FLAG_FUA)
                h.cache(1 << 20, 0)
                h.flush()
                assert h.pread(70001, 5 << 20) == bytes(70001)
                assert h.pread(3000001, 12345) == b'a' * 3000001
                """)
            func put(_ byte: UInt8, _ offset: Int, _ count: Int) {
                expected.replaceSubrange(offset..<(offset + count), with: Data(repeating: byte, count: count))
            }
            put(UInt8(ascii: "a"), 12345, 3_000_001)
            put(UInt8(ascii: "b"), 0, 512)
            put(UInt8(ascii: "c"), 4 << 20, 9 << 20)
            put(0, 5 << 20, 70001)
            put(0, 6 << 20, 8192)
            put(0, 7 << 20, 65536)
            let actual = try File.contents(image)
            // What is trimmed may be anything.
            #expect(Difference.describe(actual[..<(20 << 20)], expected[..<(20 << 20)]) == nil)
            #expect(Difference.describe(actual[(21 << 20)...], expected[(21 << 20)...]) == nil)
            #expect(actual.count == Self.size)
        }
    }

    @Test func `errors have the number that the specification wants, and the connection goes on`() async throws {
        try await withWritable { server, image, _ in
            let before = try File.contents(image)
            try await NBDShell.run(
                server.uri,
                """
                import errno
                h.set_strict_mode(0)
                def fails(number, what):
                    try: what()
                    except nbd.Error as error: assert error.errnum == number, error
                    else: raise Exception('no error')
                size = h.get_size()
                fails(errno.ENOSPC, lambda: h.pwrite(b'x' * 512, size - 511))
                fails(errno.ENOSPC, lambda: h.zero(512, size))
                fails(errno.EINVAL, lambda: h.trim(512, size))
                fails(errno.EINVAL, lambda: h.pread(512, size - 511))
                fails(errno.EINVAL, lambda: h.cache(512, 1 << 60))
                fails(errno.EINVAL, lambda: h.pread(512, 0, nbd.CMD_FLAG_REQ_ONE))
                h.pread(512, 0, nbd.CMD_FLAG_FUA)
                """)
            #expect(try File.contents(image) == before)
        }
    }

    @Test func `qemu-io, qemu-img convert, nbdcopy and fio write what they read again`() async throws {
        try await withWritable(["--max-request", "32M"]) { server, image, directory in
            let output = try await Tool.succeed(
                "qemu-io",
                [
                    "-f", "raw", server.uri, "-c", "write -P 7 1M 10M", "-c", "read -P 7 1M 10M", "-c",
                    "write -z 2M 3M",
                    "-c", "read -P 0 2M 3M", "-c", "discard 5M 1M", "-c", "aio_write -P 9 8M 1M", "-c", "aio_flush",
                    "-c", "write -f -P 8 9M 64k", "-c", "flush",
                ])
            #expect(!output.contains("failed"))
            #expect(try File.contents(image)[(8 << 20)..<(9 << 20)].allSatisfy { $0 == 9 })
            try await Tool.succeed(
                "fio",
                [
                    "--name=verify", "--ioengine=nbd", "--uri=\(server.uri)", "--rw=randrw", "--bs=4k,64k",
                    "--iodepth=16", "--size=16M", "--verify=crc32c", "--do_verify=1", "--randrepeat=1",
                    "--verify_state_save=0",
                ], environment: ["TMPDIR": directory.path])
            let other = DiskContents(mark: 8).bytes(at: 0, count: Self.size, .noise)
            let source = try directory.write("other.raw", other)
            try await Tool.succeed("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", source, server.uri])
            #expect(Difference.describe(try File.contents(image), other) == nil, "qemu-img convert")
            let sparse = directory.file("sparse.raw")
            try await Tool.shell(
                "truncate -s \(Self.size) \(sparse); printf end | dd of=\(sparse) seek=9000000 bs=1 conv=notrunc status=none"
            )
            try await Tool.succeed(
                "nbdcopy", ["--destination-is-zero=0", sparse, server.uri].filter { !$0.hasPrefix("--") })
            #expect(Difference.describe(try File.contents(image), try File.contents(sparse)) == nil, "nbdcopy")
        }
    }

    @Test func `while it is written to, QEMU and another server keep away; and it keeps away from what QEMU uses`()
        async throws
    {
        try await withWritable { _, image, _ in
            let second = try await Tool.run(try Program.path, ["serve", "-f", "raw", image, "--run", "true"])
            #expect(second.code == 66, "\(second.errors)")
            #expect(second.errors.contains("another program writes to the image"))
            let qemu = try await Tool.run("qemu-io", ["-f", "raw", image, "-c", "write 0 512"])
            #expect(qemu.code != 0 && qemu.errors.contains("lock"))
        }
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("disk.raw", Data(count: 1 << 20))
        try await Tool.shell(
            """
            qemu-nbd -r -f raw -k \(directory.file("q")) --fork --pid-file=\(directory.file("pid")) \(image)
            """)
        let outcome = try await Tool.run(
            try Program.path, ["serve", "-f", "raw", "--writable", image, "--run", "true"])
        try await Tool.shell("kill $(cat \(directory.file("pid")))")
        #expect(outcome.code != 0 && outcome.errors.contains("another program uses the image"), "\(outcome.errors)")
    }

    @Test(arguments: [
        (["--force-share"], 64, "exclude each other"), (["--allow-damaged"], 64, "more would be lost"),
        (["--snapshot", "s"], 64, "snapshots are only read"), (["--logical-volume", "a/b"], 64, "only read"),
        (["--exports", "lv/a/b"], 64, "only read"), (["--exports", "snapshot/s"], 64, "leave out --writable"),
    ])
    func `what is not written to is refused, and the error says so`(
        _ options: [String], _ status: Int32, _ part: String
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = directory.file("disk.qcow2")
        try await Tool.succeed("qemu-img", ["create", "-q", "-f", "qcow2", image, "1M"])
        try await Tool.succeed("qemu-img", ["snapshot", "-q", "-c", "s", image])
        let outcome = try await Tool.run(
            try Program.path, ["serve", "--writable", image, "--run", "true"] + options)
        #expect(outcome.code == status && outcome.errors.contains(part), "\(outcome.errors)")
    }

    @Test func `images of qcow version 1, dirty and corrupt ones are only read, and the error says what to do`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let old = directory.file("old.qcow")
        try await Tool.succeed("qemu-img", ["create", "-q", "-f", "qcow", old, "1M"])
        func refusal(_ image: String) async throws -> String {
            let outcome = try await Tool.run(try Program.path, ["serve", "-w", image, "--run", "true"])
            #expect(outcome.code == 65, "\(outcome.errors)")
            try await Tool.succeed(try Program.path, ["serve", image, "--run", "true"])
            return outcome.errors
        }
        #expect(try await refusal(old).contains("qcow version 1 are only read"))
        let image = directory.file("disk.qcow2")
        try await Tool.succeed("qemu-img", ["create", "-q", "-f", "qcow2", image, "1M"])
        // The incompatible features: dirty, then corrupt.
        for (bits, part) in [(1, "dirty bit set"), (2, "corrupt bit set")] {
            try await Tool.shell("printf '\\00\(bits)' | dd of=\(image) bs=1 seek=79 conv=notrunc status=none")
            #expect(try await refusal(image).contains(part))
        }
    }

    @Test func `of several exports, the disk is written to, and the others show it`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("disk.raw", Data(count: 8 << 20))
        try await Tool.shell("printf 'label: gpt\\nstart=4096, size=4096\\n' | sfdisk -q \(image)")
        try await ServerUnderTest.run(
            [
                "serve", "-f", "raw", "-w", "--exports", "partition/1,disk", image, "--socket", directory.file("s"),
            ], in: directory
        ) { server in
            let part = try LibNBDClient(server.uri(of: "partition/1"))
            #expect(part.isReadOnly)
            try await NBDShell.run(
                try server.uri(of: ""), "assert not h.is_read_only(); h.pwrite(b'p' * 4096, 4096 * 512 + 512)")
            let found = try part.read(4096, at: 512)
            #expect(found == Data(repeating: UInt8(ascii: "p"), count: 4096))
        }
    }

    @Test func `--once counts a client that has written`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("disk.raw", Data(count: 1 << 20))
        let outcome = try await ServerUnderTest.run(
            ["serve", "-f", "raw", "--writable", "--once", image, "--socket", directory.file("s")], ending: .byItself,
            in: directory
        ) { server in
            try await NBDShell.run(server.uri, "h.pwrite(b'w' * 65536, 0)")
        }
        #expect(outcome.code == 0)
        #expect(try File.contents(image)[..<65536].allSatisfy { $0 == UInt8(ascii: "w") })
    }

    @Test func `a partition of a writable disk is written to in its place`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("disk.raw", Data(count: 8 << 20))
        try await Tool.shell("printf 'label: gpt\\nstart=4096, size=4096\\n' | sfdisk -q \(image)")
        let before = try File.contents(image)
        try await ServerUnderTest.run(
            ["serve", "-f", "raw", "--writable", "--partition", "1", image, "--socket", directory.file("s")],
            in: directory
        ) { server in
            try await NBDShell.run(
                server.uri, "assert h.get_size() == 2 << 20; h.pwrite(b'p' * 1000, 7); h.zero(10, 1 << 20); h.flush()")
        }
        var expected = before
        expected.replaceSubrange((2 << 20 + 7)..<(2 << 20 + 1007), with: Data(repeating: 0x70, count: 1000))
        #expect(Difference.describe(try File.contents(image), expected) == nil)
    }
}
