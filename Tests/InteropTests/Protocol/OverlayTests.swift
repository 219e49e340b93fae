// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `serve --overlay`: clients change a disk, and no byte of the image.
@Suite(.fewAtATime)
struct OverlayTests {
    private static let needleCount = 24

    /// Looks for bytes in the scratch file of a server.
    /// - Returns: how long the file is, and how many of the needles, each of ``needleCount`` bytes, are in it.
    private func search(
        _ server: ServerUnderTest, in directory: String, for needles: Data
    ) async throws -> (count: Int, found: Int) {
        // Nobody but root may look at the descriptors of a program that forbids dumps.
        let sudo = geteuid() == 0 ? "" : "sudo -n "
        let copy = "\(directory)-copy"
        try await Tool.shell(
            """
            for fd in $(\(sudo)ls /proc/\(server.processIdentifier)/fd); do
                name=$(\(sudo)readlink /proc/\(server.processIdentifier)/fd/$fd) || continue
                case $name in
                \(directory)/*deleted*) \(sudo)cat /proc/\(server.processIdentifier)/fd/$fd > \(copy) ;;
                esac
            done
            """)
        try needles.write(to: URL(fileURLWithPath: "\(copy)-needles"))
        let output = try await Tool.succeed(
            "python3",
            [
                "-c",
                """
                import sys
                stored, needles = (open(path, 'rb').read() for path in sys.argv[1:3])
                count = int(sys.argv[3])
                found = [needles[i:i + count] in stored for i in range(0, len(needles), count)]
                print(len(stored), sum(found))
                """, copy, "\(copy)-needles", "\(Self.needleCount)",
            ])
        let numbers = output.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
        return (try #require(numbers.first), try #require(numbers.last))
    }

    private func with(
        _ kind: OverlayImage.Kind, _ options: [String] = [],
        _ body: (ServerUnderTest, OverlayImage, TemporaryDirectory, _ scratch: String) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await OverlayImage.make(kind, in: directory)
        let before = try image.contents()
        let scratch = directory.file("scratch")
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: false)
        let arguments = ["serve", "--overlay", "--overlay-dir", scratch, "--socket", directory.file("s")]
        try await ServerUnderTest.run(arguments + image.arguments + options, in: directory) { server in
            try await body(server, image, directory, scratch)
            // It has no name.
            #expect(try FileManager.default.contentsOfDirectory(atPath: scratch).isEmpty)
        }
        let after = try image.contents()
        #expect(after == before, "the image is as it was")
    }

    @Test(arguments: OverlayImage.Kind.allCases)
    func `clients write to any image, read what they wrote, and the scratch file shows nothing of it`(
        _ kind: OverlayImage.Kind
    ) async throws {
        try await with(kind) { server, image, directory, scratchDirectory in
            try server.expectContents(image.disk)
            var expected = image.disk
            func put(_ byte: UInt8, _ offset: Int, _ count: Int) -> String {
                expected.replaceSubrange(offset..<(offset + count), with: Data(repeating: byte, count: count))
                return byte == 0 ? "write -z \(offset) \(count)" : "write -P \(byte) \(offset) \(count)"
            }
            let end = expected.count
            let commands = [
                put(7, 1 << 20, 1 << 20), put(9, 100 << 10 + 512, 512), put(0x5A, 3 << 20 - 1536, 66_048),
                put(0, 5 << 20 + 512, 200_192), put(0x5A, 5 << 20 + 8192, 512), put(3, end - 1024, 1024),
                put(8, 1 << 20 + 4096, 512),
            ]
            let output = try await Tool.succeed(
                "qemu-io",
                ["-f", "raw", server.uri]
                    + (commands + ["read -P 7 1536k 4k", "read -P 90 5251072 512", "flush"]).flatMap { ["-c", $0] })
            #expect(!output.contains("failed"), "\(output)")
            // Noise that is not that of the disk, and of which no piece may be in the scratch file.
            let noise = DiskContents(mark: 0x77).bytes(at: 0, count: 300_001, .noise)
            let path = try directory.write("noise", noise)
            try await NBDShell.run(
                server.uri, "h.pwrite(open('\(path)', 'rb').read(), 6000001, nbd.CMD_FLAG_FUA); h.flush()")
            expected.replaceSubrange(6_000_001..<6_300_002, with: noise)
            try server.expectContents(expected)
            var needles = Data()
            for offset in stride(from: 1_000, to: 300_000, by: 1999) {
                needles += noise[offset..<(offset + Self.needleCount)]
            }
            for byte in [7, 8, 9, 0x5A, 3] as [UInt8] { needles += Data(repeating: byte, count: Self.needleCount) }
            // What was copied into a unit that was written in part, unless it is zeros.
            let copied = image.disk[(3 << 20 - 4096 + 16)...].prefix(Self.needleCount)
            if Set(copied).count > 1 { needles += copied }
            let (count, found) = try await search(server, in: scratchDirectory, for: needles)
            #expect(count >= 6_300_002 && found == 0)
        }
    }

    @Test func `all exports of an image see what is written through the first; snapshots and lower layers do not`()
        async throws
    {
        try await with(.chain, ["--exports", "disk,layer/0,layer/1"]) { server, image, _, _ in
            let base = server.uri.replacingOccurrences(of: "nbd+unix:///", with: "")
            try await NBDShell.run(
                server.uri,
                """
                def other(name):
                    h = nbd.NBD(); h.connect_uri('nbd+unix:///' + name + '\(base)'); return h
                assert not h.is_read_only() and h.can_multi_conn() and h.can_trim() and h.can_fast_zero()
                top, below = other('layer/0'), other('layer/1')
                old = below.pread(512, 1 << 20)
                assert below.is_read_only() and top.is_read_only()
                h.pwrite(b'x' * 512, 1 << 20)
                assert top.pread(512, 1 << 20) == b'x' * 512 and below.pread(512, 1 << 20) == old
                """)
        }
        try await with(.partition, ["--exports", "disk,partition/1"]) { server, image, directory, _ in
            // The default export is the partition; the two are one.
            let base = server.uri.replacingOccurrences(of: "nbd+unix:///", with: "")
            try await NBDShell.run(
                server.uri,
                """
                other = nbd.NBD(); other.connect_uri('nbd+unix:///partition/1\(base)')
                h.pwrite(b'y' * 700, 4000)
                assert other.is_read_only() and other.pread(700, 4000) == b'y' * 700
                """)
        }
    }

    @Test func `zeros and what is given up take no space, block status says so, and space comes back`() async throws {
        try await with(.raw) { server, image, directory, scratchDirectory in
            try await NBDShell.run(
                server.uri,
                """
                import os, glob
                h.zero(4 << 20, 0)
                h.pwrite(b'd' * (1 << 20), 4 << 20)
                h.trim(512 << 10, 4 << 20)
                assert h.pread(4 << 20, 0) == bytes(4 << 20)
                assert h.pread(512 << 10, 4 << 20) == bytes(512 << 10)
                assert h.pread(512 << 10, 4608 << 10) == b'd' * (512 << 10)
                """)
            let map = try await Tool.succeed("nbdinfo", ["--map", server.uri])
            let kinds = map.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
            #expect(kinds[0][0...3] == ["0", "\(4608 << 10)", "3", "hole,zero"], "\(map)")
            #expect(kinds[1][0] == "\(4608 << 10)" && kinds[1][2] == "0", "\(map)")
            let blocks = try await Tool.succeed(
                "/bin/sh",
                [
                    "-c",
                    "\(geteuid() == 0 ? "" : "sudo -n ")find -L /proc/\(server.processIdentifier)/fd -type f -links 0 "
                        + "-size +0 -printf '%b\\n'",
                ])
            // What is left, and what the file system needs to know where it is.
            let counts = blocks.split(separator: "\n").compactMap { Int($0) }
            #expect(counts.contains { (1024...1200).contains($0) }, "\(blocks)")
        }
    }

    @Test func `nbdcopy and qemu-img write a disk into it, and fio verifies with four connections`() async throws {
        try await with(.qcow2AES) { server, image, directory, _ in
            let other = try directory.write(
                "other.raw", DiskContents(mark: 8).striped(count: image.disk.count, clusterSize: 32 << 10))
            try await Tool.succeed("nbdcopy", [other, server.uri])
            let same = try await Tool.succeed("qemu-img", ["compare", "-f", "raw", "-F", "raw", other, server.uri])
            #expect(same.contains("identical"))
            try await Tool.succeed(
                "fio",
                [
                    "--name=verify", "--ioengine=nbd", "--uri=\(server.uri)", "--rw=randrw", "--bsrange=512-64k",
                    "--bs_unaligned=1", "--iodepth=8", "--size=2M", "--offset_increment=2M", "--numjobs=4",
                    "--verify=crc32c", "--do_verify=1", "--randrepeat=1", "--verify_state_save=0", "--group_reporting",
                ], environment: ["TMPDIR": directory.path])
            try await Tool.succeed("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", other, server.uri])
            try server.expectContents(try File.contents(other))
        }
    }

    @Test func `logical volumes are changed in the overlay, also striped ones over two partitions`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = try await LVMImage(directory: directory).two()
        let before = try Data(contentsOf: URL(fileURLWithPath: path))
        for volume in ["linear", "striped"] {
            try await ServerUnderTest.run(
                [
                    "serve", "-f", "raw", path, "--overlay", "--logical-volume", "two/\(volume)", "--socket",
                    directory.file("s"),
                ], in: directory
            ) { server in
                try await NBDShell.run(
                    server.uri,
                    """
                    h.pwrite(b'v' * 300001, 12345); h.flush()
                    assert h.pread(300001, 12345) == b'v' * 300001
                    """)
            }
        }
        let after = try Data(contentsOf: URL(fileURLWithPath: path))
        #expect(after == before)
    }

    @Test func `at the limit of the size of files the client gets ENOSPC, and the server goes on`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("disk.raw", DiskContents(mark: 3).bytes(at: 0, count: 8 << 20, .noise))
        let line =
            "ulimit -f 2048; exec \(try Program.path) serve -f raw \(image) --overlay --socket \(directory.file("s"))"
        try await ServerUnderTest.run(["-c", line], program: "/bin/bash", in: directory) { server in
            try await noSpace(server, full: 4 << 20)
        }
    }

    @Test func `when the file system is full the client gets ENOSPC, and goes on when there is room`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("disk.raw", DiskContents(mark: 3).bytes(at: 0, count: 8 << 20, .noise))
        let small = directory.file("small")
        try FileManager.default.createDirectory(atPath: small, withIntermediateDirectories: false)
        let sudo = geteuid() == 0 ? "" : "sudo -n "
        try await Tool.shell("\(sudo)mount -t tmpfs -o size=2M,mode=1777 tmpfs \(small)")
        let result: Result<Void, any Error>
        do {
            try await ServerUnderTest.run(
                [
                    "serve", "-f", "raw", image, "--overlay", "--overlay-dir", small, "--socket", directory.file("s"),
                ], in: directory
            ) { server in
                try await noSpace(server, full: 1 << 20)
                try await NBDShell.run(
                    server.uri,
                    """
                    h.trim(1 << 20, 0)
                    h.pwrite(b'r' * (1 << 20), 6 << 20)
                    assert h.pread(1 << 20, 6 << 20) == b'r' * (1 << 20)
                    """)
            }
            result = .success(())
        } catch { result = .failure(error) }
        try await Tool.shell("\(sudo)umount \(small)")
        try result.get()
    }

    /// - Parameter full: from this byte on, nothing can be written when the first MiB has been.
    private func noSpace(_ server: ServerUnderTest, full: Int) async throws {
        try await NBDShell.run(
            server.uri,
            """
            import errno
            h.pwrite(b'w' * (1 << 20), 0)
            old = h.pread(3 << 20, 4 << 20)
            for offset, count in ((\(full), 3 << 20), (4 << 20, 3 << 20)):
                try:
                    h.pwrite(b'z' * count, offset)
                    raise Exception('no error')
                except nbd.Error as error:
                    assert error.errnum == errno.ENOSPC, error
            assert h.pread(1 << 20, 0) == b'w' * (1 << 20)
            assert h.pread(3 << 20, 4 << 20) == old
            h.pwrite(b'w' * 4096, 8192)
            h.flush()
            """)
    }

    @Test func `what cannot be is refused, and the error says what to do`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("disk.raw", Data(count: 1 << 20))
        let base = ["serve", image, "-f", "raw", "--run", "true"]
        for (options, status, words) in [
            (["--overlay", "--overlay-dir", directory.file("none")], 66, "No such file or directory"),
            (["--overlay", "--overlay-dir", image], 66, "Not a directory"),
            (["--overlay", "--overlay-dir", "/proc"], 66, "no scratch file can be made in this directory"),
            (["--overlay", "--writable"], 64, "--writable and --overlay exclude each other"),
            (["--overlay-dir", directory.path], 64, "give both"),
            (["--overlay", "--snapshot", "s"], 64, "snapshots are only read"),
            (["--overlay", "--bitmap", "b"], 64, "bitmaps do not tell"),
        ] as [([String], Int32, String)] {
            let outcome = try await Tool.run(try Program.path, base + options)
            #expect(outcome.code == status && outcome.errors.contains(words), "\(options): \(outcome.errors)")
            if status == 66 {
                #expect(outcome.errors.contains(options[2]) && outcome.errors.contains("with --overlay-dir"))
            }
        }
        let small = directory.file("small.qcow2")
        try await Tool.shell("qemu-img create -q -f qcow2 \(small) 1M && qemu-img snapshot -c s \(small)")
        let snapshot = try await Tool.run(
            try Program.path, ["serve", small, "--overlay", "--exports", "snapshot/s", "--run", "true"])
        #expect(snapshot.code == 64 && snapshot.errors.contains("leave out --overlay"), "\(snapshot.errors)")
        let huge = directory.file("huge.qcow2")
        try await Tool.succeed(
            "qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", huge, "\((256 << 40) + 512)"])
        let outcome = try await Tool.run(try Program.path, ["serve", huge, "--overlay", "--run", "true"])
        #expect(outcome.code == 64 && outcome.errors.contains("281474976710656 at most"), "\(outcome.errors)")
    }

    @Test func `a file of --config says it for an image, with a directory that is relative to it`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try directory.write("disk.raw", Data(count: 1 << 20))
        try directory.write("base.raw", Data(count: 1 << 20))
        try FileManager.default.createDirectory(atPath: directory.file("scratch"), withIntermediateDirectories: false)
        let config = try directory.write(
            "images.json",
            text: """
                {"images": [{"path": "disk.raw", "format": "raw", "overlay": true, "overlay-dir": "scratch"},
                            {"path": "base.raw", "format": "raw"}]}
                """)
        try await ServerUnderTest.run(["serve", "--config", config, "--socket", directory.file("s")], in: directory) {
            try await NBDShell.run($0.uri, "h.pwrite(b'c' * 100, 0); assert h.pread(100, 0) == b'c' * 100")
            #expect(try $0.errors.contains("scratch file in \(directory.file("scratch")), and are lost"))
        }
    }

    @Test func `a server that is killed leaves nothing behind`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try directory.write("disk.raw", Data(count: 1 << 20))
        try await Tool.shell(
            """
            cd \(directory.path); mkdir scratch
            \(try Program.path) serve -f raw \(image) --overlay --overlay-dir scratch --socket s > log 2>&1 & pid=$!
            trap 'kill -9 $pid 2> /dev/null || true' EXIT
            until [ -S s ]; do sleep 0.02; done
            PATH=/usr/bin:/bin nbdsh -u 'nbd+unix:///?socket=s' -c "h.pwrite(b'k' * 100000, 5)"
            kill -9 $pid; wait $pid || true
            [ -z "$(ls -A scratch)" ]
            """)
        #expect(try File.contents(image) == Data(count: 1 << 20))
    }
}
