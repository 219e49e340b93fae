// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What lies at a byte of a disk that no partition table names.
@Suite(.fewAtATime)
struct WindowTests {
    /// No multiples of the sector size of a container, of 4096 and of 512.
    private static let offsets = [1 << 20, 63 * 512, 2047 * 512, 1000]
    private static let size = 8 << 20
    private static let luks2 = [
        "--luks2-metadata-size", "16k", "--luks2-keyslots-size", "512k", "--sector-size", "4096",
    ]

    @Test(
        arguments: ["luks1", "luks2"],
        ["raw", "qcow2"])
    func `a LUKS container at an offset is decrypted, wherever it begins`(_ type: String, _ format: String) async throws
    {
        try await withContainer(type) { directory, path, plain, secret in
            let container = try File.contents(path)
            for offset in Self.offsets {
                let image = try await disk(format, directory, size: 12 << 20, [(offset, container)])
                let window = ["--offset", "\(offset)", "--size", "\(container.count)"]
                try await serve(image + window + secret, directory) { server in
                    try server.expectContents(plain)
                    #expect(try server.exports()[""]?.contains("LUKS\(type.suffix(1))") == true)
                }
                // The ciphertext is that of the window, and needs no secret.
                try await serve(image + window + ["--exports", "ciphertext"], directory) { server in
                    try server.expectExports("ciphertext")
                    try server.expect(container, at: "ciphertext")
                }
                try await serve(image + window + secret + ["--exports", "all"], directory) { server in
                    try server.expectExports("", "ciphertext")
                    try server.expect(container, at: "ciphertext")
                    try server.expectContents(plain)
                }
            }
        }
    }

    @Test
    func `up to the end of the disk, and from its start on; without a secret, or with a wrong one, nothing is served`()
        async throws
    {
        try await withContainer("luks1") { directory, path, plain, secret in
            let container = try File.contents(path)
            let image = try await disk("raw", directory, size: 4096 + container.count, [(4096, container)])
            try await serve(image + ["--offset", "4K"] + secret, directory) { try $0.expectContents(plain) }
            try await serve([path, "-f", "raw", "--offset", "0"] + secret, directory) {
                try $0.expectContents(plain)
            }
            let wrong = ["--passphrase-file", try directory.write("wrong", text: "wrong")]
            for (secret, says) in [(wrong, "opens no keyslot"), ([], "no passphrase")] {
                let outcome = try await Program.run(
                    ["serve", "--socket", directory.file("s"), "--offset", "4K"] + image + secret)
                #expect(outcome.code == 77 || secret.isEmpty && outcome.code == 64, "\(says): \(outcome.errors)")
            }
            for (size, says) in [(100 << 10, "an area within"), (4096, "an area within"), (592, "an area within")] {
                try await Program.expectRefusal(
                    ["serve", "--socket", directory.file("s"), "--offset", "4K", "--size", "\(size)"] + image + secret,
                    status: 65, saying: "\(size) bytes from byte 4096", says)
            }
        }
    }

    @Test func `another image at an offset is served as it is, with a warning, unless a secret is there to decrypt it`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let inner = directory.file("inner.qcow2")
        try await Tool.succeed("qemu-img", ["create", "-q", "-f", "qcow2", inner, "1M"])
        let contents = try File.contents(inner)
        let image = try await disk("raw", directory, size: 8192 + contents.count, [(8192, contents)])
        let outcome = try await serve(image + ["--offset", "8K"], directory) { try $0.expectContents(contents) }
        #expect(outcome.errors.contains("warning: ") && outcome.errors.contains("looks like a qcow2 image"))
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        try await Program.expectRefusal(
            ["serve", "--socket", directory.file("s"), "--offset", "8K"] + image + secret, status: 65,
            saying: "looks like a qcow2 image", "a file of its own")
    }

    @Test(arguments: [false, true])
    func `a partition table is found at an offset, and in a container at an offset`(isEncrypted: Bool) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let inner = try await innerDisk(directory)
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        var contents = try File.contents(inner)
        let partition = contents.subdata(in: (1 << 20)..<(3 << 20))
        if isEncrypted {
            let luks = directory.file("inner.luks")
            try await LUKSMaker.qemu(inner, luks, passphrase: secret[1])
            contents = try File.contents(luks)
        }
        let offset = 5_000_192
        let image = try await disk("qcow2", directory, size: 16 << 20, [(offset, contents)])
        let window = ["--offset", "\(offset)", "--size", "\(contents.count)"] + (isEncrypted ? secret : [])
        try await serve(image + window + ["--partition", "1"], directory) { try $0.expectContents(partition) }
        try await serve(image + window + ["--exports", "all"], directory) { server in
            #expect(
                try server.exports().keys.sorted()
                    == [""] + (isEncrypted ? ["ciphertext"] : []) + ["partition/1", "partition/2"])
            try server.expect(partition, at: "partition/1")
        }
        let missing = try await Program.run(
            ["serve", "--socket", directory.file("s"), "--partition", "7"] + image + window)
        #expect(missing.code == 64 && missing.errors.contains("no partition 7; it has 1, 2"), "\(missing.errors)")
    }

    @Test
    func `with a partition, an offset is one of the partition; when it can be that of a disk too, nothing is guessed`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let inner = try await innerDisk(directory)
        let outer = try directory.write("outer", DiskContents(mark: 3).bytes(at: 0, count: 16 << 20, .plain))
        try await Tool.shell(
            "printf 'label: gpt\nstart=4096,size=4M\nstart=16384,size=4M\n' | sfdisk -q --wipe never \(outer)")
        var contents = try File.contents(outer)
        let nested = try File.contents(inner)
        contents.replaceSubrange((8 << 20)..<(12 << 20), with: nested)
        try directory.write("outer", contents)
        func expect(_ range: Range<Int>, _ options: String...) async throws {
            try await serve([outer, "-f", "raw"] + options, directory) { try $0.expectContents(Data(contents[range])) }
        }
        try await expect((2 << 20) + 1000..<(2 << 20) + 3000, "--partition", "1", "--offset", "1000", "--size", "2000")
        try await expect((8 << 20) + 1000..<(12 << 20), "--partition", "2", "--offset", "1000")
        // A disk that begins where the disk does is no other.
        try await expect(8 << 20..<(8 << 20) + 3000, "--partition", "2", "--size", "3000")
        // The partition of the outer disk has no byte 8 MiB, but could have.
        try await Program.expectRefusal(
            ["serve", "--socket", directory.file("s"), "-f", "raw", outer, "--partition", "1", "--offset", "8M"],
            status: 64, saying: "--partition 1 with --offset can be", "--exports partition/1")
        try await serve(
            [outer, "-f", "raw", "--offset", "8M", "--exports", "partition/1"], directory
        ) { server in try server.expect(nested[(1 << 20)..<(3 << 20)], at: "partition/1") }
    }

    @Test(arguments: ["luks1", "luks2"], ["", "8192"])
    func
        `a part of a disk is the data of a detached header, which counts from its start, as in cryptsetup open --header`(
            _ type: String, _ payload: String
        ) async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        let (data, plain) = try await detachedData(type, payload: payload, directory)
        let header = ["--header", directory.file("header")]
        let offset = 3 << 20
        for format in ["raw", "qcow2"] {
            for offset in [offset, 1000] {
                let image = try await disk(format, directory, size: 16 << 20, [(offset, data)])
                // What the image is need not be said: the header says it.
                let window = [image[0], "--offset", "\(offset)", "--size", "\(data.count)"] + header
                try await expect(plain, window, secret, directory)
            }
            let image = try await disk(format, directory, size: 16 << 20, [(offset, data)]) { path in
                "printf 'label: gpt\nstart=2048,size=1M\nstart=\(offset / 512),size=\(data.count / 512)\n' | sfdisk -q --wipe never \(path)"
            }
            try await expect(plain, image + ["--partition", "2"] + header, secret, directory)
            // A part of a partition.
            try await expect(
                plain.dropLast(4096), image + ["--partition", "2", "--size", "\(data.count - 4096)"] + header, secret,
                directory)
            try await Program.expectRefusal(
                ["serve", "--socket", directory.file("s"), "--partition", "3"] + image + header + secret, status: 64,
                saying: "no partition 3; it has 1, 2")
        }
    }

    @Test func `what is in the container of a detached header on a part of a disk is selected by its name`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        let inner = try await innerDisk(directory)
        let partition = try File.contents(inner)[(1 << 20)..<(3 << 20)]
        let luks = directory.file("inner.luks")
        try await LUKSMaker.qemu(inner, luks, passphrase: secret[1])
        let maker = LUKSMaker(directory: directory)
        try await maker.cryptsetup(["luksHeaderBackup", luks, "--header-backup-file", directory.file("header")])
        // The header is of no use where it was.
        var container = try File.contents(luks)
        container.replaceSubrange(0..<8, with: Data(count: 8))
        let image = try await disk("raw", directory, size: 16 << 20, [(5 << 20, container)])
        let window = ["--offset", "5M", "--size", "\(container.count)", "--header", directory.file("header")]
        try await serve(image + window + secret + ["--exports", "disk,partition/1"], directory) { server in
            try server.expectExports("", "partition/1")
            try server.expect(partition, at: "partition/1")
            try server.expectContents(try File.contents(inner))
        }
        // What looks like an image is not taken for data.
        let qcow2 = directory.file("other.qcow2")
        try await Tool.succeed("qemu-img", ["create", "-q", "-f", "qcow2", qcow2, "1M"])
        let other = try File.contents(qcow2) + Data(count: container.count)
        let looks = try await disk("raw", directory, size: 16 << 20, [(5 << 20, other)])
        for command in [["serve", "--socket", directory.file("s")] + secret, ["info"]] {
            try await Program.expectRefusal(
                command + looks + window, status: 65, saying: "looks like a qcow2 image", "say so with -f luks")
        }
    }

    @Test(arguments: ["luks1", "luks2"])
    func `the header of an encrypted Ceph clone is refused wherever it is found`(_ type: String) async throws {
        try await withContainer(type) { directory, path, plain, secret in
            var container = try File.contents(path)
            container.replaceSubrange(0..<4, with: Data("RBDL".utf8))
            try directory.write("disk.luks", container)
            let socket = ["--socket", directory.file("s")]
            let words = "rbd flatten --encryption-format luks --encryption-passphrase-file FILE"
            func refuses(_ arguments: [String]) async throws {
                try await Program.expectRefusal(
                    ["serve"] + arguments + secret + socket, status: 65, saying: "Ceph", words)
            }
            try await refuses([path])
            try await refuses([path, "-f", "luks"])
            try await refuses([path, "-f", "raw"])
            try await refuses([path, "--header", path])
            let image = try await disk("qcow2", directory, size: 12 << 20, [(1 << 20, container)])
            try await refuses(image + ["--offset", "1M"])
            try await Tool.shell(
                "printf 'label: gpt\nstart=2048,size=\(container.count / 512)\n' | sfdisk -q --wipe never \(directory.file("disk.raw"))"
            )
            let partitioned = directory.file("disk.raw")
            try await refuses([partitioned, "-f", "raw", "--partition", "1"])
            try await refuses([partitioned, "-f", "raw", "--exports", "partition/1"])
            let guest = try await disk("qcow2", directory, size: container.count, [(0, container)])
            try await refuses(guest)
        }
    }

    // MARK: Disks

    /// Serves, shows and audits the same.
    private func expect(
        _ plain: Data, _ image: [String], _ secret: [String], _ directory: TemporaryDirectory
    ) async throws {
        try await serve(image + secret, directory) { try $0.expectContents(plain) }
        let text = try await Tool.succeed(
            try Program.path, ["info", "--json", "--check-passphrase"] + image + secret)
        let report = try JSONDecoder().decode(InfoReport.self, from: Data(text.utf8))
        #expect(report.virtualSize == UInt64(plain.count) && report.luks?.place == "detached header", "\(image)")
        #expect(report.passphraseCheck?.outcomes.map(\.keyslots) == [[0]])
    }

    /// Data that cryptsetup has encrypted, for a header that it has made; and what it was.
    ///
    /// - Parameter payload: the sector of the data where it begins, by the header.
    private func detachedData(
        _ type: String, payload: String, _ directory: TemporaryDirectory
    ) async throws -> (data: Data, plain: Data) {
        let maker = LUKSMaker(directory: directory)
        let plain = DiskContents(mark: 5).bytes(at: 0, count: 2 << 20, .noise)
        let path = try directory.write("encrypted", plain)
        let secret = ["--key-file", directory.file("p")]
        let cipher = ["--cipher", "aes-xts-plain64", "--key-size", "512"] + LUKSMaker.cheap
        try await maker.cryptsetup(
            ["reencrypt", "--encrypt", "--type", "luks2", "--sector-size", "512", "--force-offline-reencrypt"] + cipher
                + secret + ["--header", directory.file("first"), path])
        // The same key in the header that is wanted.
        let key = ["--volume-key-file", directory.file("key")]
        try await maker.cryptsetup(["luksDump", "--dump-volume-key"] + key + secret + [directory.file("first")])
        try await maker.cryptsetup(
            ["luksFormat", "--type", type] + (payload.isEmpty ? [] : ["--offset", payload])
                + (type == "luks2" ? ["--sector-size", "512"] : []) + cipher + key
                + ["--header", directory.file("header"), try directory.write("room", Data(count: 8 << 20)), "-"],
            "correct horse")
        let before = DiskContents(mark: 8).bytes(at: 0, count: 512 * (Int(payload) ?? 0), .noise)
        return (before + (try File.contents(path)), plain)
    }

    /// A container, its plaintext and the option that opens it.
    private func withContainer(
        _ type: String,
        _ body: (TemporaryDirectory, _ path: String, _ plain: Data, _ secret: [String]) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        var maker = LUKSMaker(directory: directory)
        maker.size = Self.size
        let path: String
        if type == "luks1" {
            // What is in it is not what this program says, but what QEMU has encrypted.
            let plain = try directory.write("plain", DiskContents(mark: 7).bytes(at: 0, count: 3 << 20, .plain))
            path = directory.file("disk.luks")
            try await LUKSMaker.qemu(plain, path, passphrase: secret[1])
        } else {
            path = try await maker.format(type: type, options: LUKSMaker.cheap + Self.luks2)
            let plain = directory.file("plain")
            try await serve([path] + secret, directory) { server in
                try await Tool.succeed("nbdcopy", [server.uri, plain])
            }
        }
        try await body(directory, path, try File.contents(directory.file("plain")), secret)
    }

    /// A disk of 4 MiB with two partitions.
    private func innerDisk(_ directory: TemporaryDirectory) async throws -> String {
        let path = try directory.write("inner", DiskContents(mark: 9).bytes(at: 0, count: 4 << 20, .plain))
        try await Tool.shell("printf 'label: gpt\nstart=2048,size=2M\nsize=512K\n' | sfdisk -q --wipe never \(path)")
        return path
    }

    /// Zeros with something in them; arguments for the program.
    ///
    /// - Parameter change: a shell command that changes the raw disk.
    private func disk(
        _ format: String, _ directory: TemporaryDirectory, size: Int, _ pieces: [(offset: Int, bytes: Data)],
        change: ((_ path: String) -> String)? = nil
    ) async throws -> [String] {
        var contents = Data(count: size)
        for (offset, bytes) in pieces { contents.replaceSubrange(offset..<(offset + bytes.count), with: bytes) }
        let raw = try directory.write("disk.raw", contents)
        if let change { try await Tool.shell(change(raw)) }
        guard format == "qcow2" else { return [raw, "-f", "raw"] }
        let image = directory.file("disk.qcow2")
        try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", raw, image])
        return [image]
    }

    @discardableResult
    private func serve(
        _ arguments: [String], _ directory: TemporaryDirectory, _ body: (ServerUnderTest) async throws -> Void
    ) async throws -> Tool.Outcome {
        try await ServerUnderTest.run(["serve"] + arguments + ["--socket", directory.file("s")], in: directory, body)
    }
}
