// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Where a LUKS container and its header may be, and what the format option makes of it.
@Suite(.fewAtATime)
struct ContainerTests {
    @Test func `-f raw serves the ciphertext, with a warning`() async throws {
        try await withContainer { maker, path, secret in
            let outcome = try await ServerUnderTest.run(
                ["serve", path, "-f", "raw"] + socket(maker), in: maker.directory
            ) { server in try server.expectContents(try File.contents(path)) }
            #expect(outcome.errors.contains("warning: the contents look like a LUKS container"))
        }
    }

    @Test func `-f luks opens a container and refuses everything else`() async throws {
        try await withContainer { maker, path, secret in
            try await serves(maker, [path, "-f", "luks"] + secret, size: maker.size - (16 << 20))
            let other = try maker.directory.write("other", Data(count: 1 << 20))
            for command in ["serve", "info"] {
                try await Program.expectRefusal([command, other, "-f", "luks"], status: 65, saying: "no LUKS header")
            }
        }
    }

    @Test func `a container on the guest disk of a qcow2 image is opened; -f qcow2 serves it as it is`() async throws {
        try await withContainer { maker, path, secret in
            let image = maker.directory.file("image.qcow2")
            try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", path, image])
            try await serves(maker, [image] + secret, size: maker.size - (16 << 20))
            let outcome = try await ServerUnderTest.run(
                ["serve", image, "-f", "qcow2"] + socket(maker), in: maker.directory
            ) { server in try server.expectContents(try File.contents(path)) }
            #expect(outcome.errors.contains("warning: the guest disk holds a LUKS container"))
            let report = try await InfoReport.of(image)
            #expect(report.format == "qcow2" && report.luks?.place == "guest disk")
            #expect(report.virtualSize == UInt64(maker.size - (16 << 20)))
        }
    }

    @Test func `a detached header opens the data; neither file is of use alone`() async throws {
        try await withContainer { maker, path, secret in
            let header = maker.directory.file("header.img")
            try await maker.cryptsetup(["luksHeaderBackup", path, "--header-backup-file", header])
            let whole = try await read(maker, [path] + secret)
            try await maker.cryptsetup(["luksErase", path])
            let detached = try await read(maker, [path, "--header", header] + secret)
            #expect(whole == detached)
            try await Program.expectRefusal(
                ["serve", header] + secret + socket(maker), status: 65, saying: "backup of a header", "--header")
            // Of use for info, though: does the backup still open?
            let alone = try await InfoReport.of(
                header, "--check-passphrase", secret[0], secret[1])
            #expect(alone.luks?.place == "header alone" && alone.virtualSize == nil)
            #expect(alone.refusal?.contains("--header") == true)
            #expect(alone.passphraseCheck?.outcomes.map(\.keyslots) == [[0]])
            try await Program.expectRefusal(
                ["serve", path, "--header", path] + secret + socket(maker), status: 77, saying: "no keyslot")
            let data = try maker.directory.write("data", try File.contents(path).dropFirst(16 << 20))
            for command in ["serve", "info"] {
                try await Program.expectRefusal(
                    [command, path, "--header", data], status: 65, saying: data, "no LUKS header")
                try await Program.expectRefusal(
                    [command, path, "--header", maker.directory.file("none")], status: 66, saying: "none")
            }
            let small = try maker.directory.write("small", Data(count: 1 << 20))
            try await Program.expectRefusal(
                ["info", small, "--header", header], status: 65,
                saying: "is IMAGE the file that belongs to this header?")
            let unknown = try await Program.run(["serve", data] + secret + socket(maker))
            #expect(unknown.code == 65 && unknown.errors.contains("name the file with its header with --header"))
            let report = try await InfoReport.of(path, "--header", header)
            let commands = report.luks?.verdict.weak.compactMap(\.command) ?? []
            #expect(commands.contains("cryptsetup luksConvertKey --pbkdf argon2id \(header)"), "\(commands)")
            #expect(commands.allSatisfy { !$0.contains("reencrypt") || $0.hasSuffix("--header \(header) \(path)") })
            #expect(report.luks?.place == "detached header" && report.virtualSize == UInt64(whole.count))
        }
    }

    @Test(arguments: [1, 2])
    func `a container that ends within its header, its keyslots or its first sector is cut short`(version: Int)
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        var maker = LUKSMaker(directory: directory)
        maker.size = 4 << 20
        let small = version == 2 ? ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "512k"] : []
        let path = try await maker.format(type: "luks\(version)", options: LUKSMaker.cheap + small)
        let contents = try File.contents(path)
        let start = try #require(try await InfoReport.of(path).luks?.segments.first.map { Int($0.offset) })
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        for size in [6, 300, 600, 16384, 32768, 100_000, start - 1, start, start + 511] {
            let cut = try directory.write("cut", contents[..<size])
            try await Program.expectRefusal(
                ["serve", cut] + secret + socket(maker), status: 65, saying: "is cut short")
            let info = try await Program.run(["info", cut])
            let words = info.code == 0 ? info.output : info.errors
            #expect(words.contains("is cut short"), "\(size): \(words)")
            // All of the header, and nothing of the data: that is what a backup of a header is.
            #expect((info.code == 0) == (start - 1...start).contains(size), "\(size)")
            let header = try await Program.run(
                ["serve", path, "--header", cut] + secret + socket(maker) + ["--run", "true"])
            #expect(header.code == (size >= start - 1 ? 0 : 65), "\(size): \(header.errors)")
            #expect(header.code == 0 || header.errors.contains("cut short") || header.errors.contains("no LUKS header"))
        }
    }

    @Test(arguments: [0, 16384])
    func `a damaged copy of the header is told, and the other one opens`(_ offset: Int) async throws {
        try await withContainer { maker, path, secret in
            let whole = try await read(maker, [path] + secret)
            var bytes = try File.contents(path)
            bytes[offset + 4096 + 20] ^= 1
            try maker.directory.write("disk.luks", bytes)
            let outcome = try await ServerUnderTest.run(
                ["serve", path] + secret + socket(maker), in: maker.directory
            ) { server in try server.expectContents(whole) }
            #expect(outcome.errors.contains("warning: "), "\(outcome.errors)")
            #expect(outcome.errors.contains("checksum"), "\(outcome.errors)")
            let report = try await InfoReport.of(path)
            #expect(report.luks?.headerCopy?.name == (offset == 0 ? "secondary" : "primary"))
            #expect(report.luks?.warnings.isEmpty == false)
            // Even the magic may be gone.
            bytes.replaceSubrange(offset..<(offset + 512), with: Data(count: 512))
            try maker.directory.write("disk.luks", bytes)
            #expect(try await read(maker, [path] + secret) == whole)
        }
    }

    @Test func `a leftover second header behind a partition table is not opened unless -f luks asks for it`()
        async throws
    {
        try await withContainer { maker, path, secret in
            let whole = try await read(maker, [path] + secret)
            // As one reuses a disk: the start is wiped, and gets a partition table.
            var bytes = try File.contents(path)
            bytes.replaceSubrange(0..<16384, with: Data(count: 16384))
            try maker.directory.write("disk.luks", bytes)
            #expect(try await read(maker, [path] + secret) == whole)
            try await Tool.shell("printf '2048,,83\\n' | sfdisk --quiet --label dos \(path)")
            for command in ["serve", "info"] {
                try await Program.expectRefusal(
                    [command, path], status: 65, saying: "a DOS partition table", "-f raw", "-f luks")
            }
            #expect(try await read(maker, [path, "-f", "luks"] + secret) == whole)
            let image = maker.directory.file("image.qcow2")
            try await Tool.succeed("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", path, image])
            let outcome = try await ServerUnderTest.run(["serve", image] + socket(maker), in: maker.directory) {
                server in try server.expectContents(try File.contents(path))
            }
            #expect(outcome.errors.contains("warning: ") && outcome.errors.contains("LUKS2 header is left on it"))
            let encryption = try await InfoReport.of(image).encryption
            #expect(encryption.method == "none" && encryption.description.contains("LUKS2 header is left"))
        }
    }

    @Test func `a reencryption that is killed in the middle of a step is no damage`() async throws {
        try await withContainer { maker, path, secret in
            let key = try maker.directory.write("k", text: "correct horse")
            _ = try await Tool.run(
                "cryptsetup",
                ["reencrypt", "--batch-mode", "--init-only", "--key-file", key] + LUKSMaker.cheap + [path])
            // What cryptsetup writes to both copies before it touches the first MiB.
            try await Tool.succeed(
                "python3",
                [
                    "-c",
                    """
                    import hashlib, json, sys
                    data = bytearray(open(sys.argv[1], "rb").read())
                    for place in (0, 16384):
                        text = json.loads(data[place + 4096:place + 16384].split(b"\\0")[0])
                        regular = dict(text["segments"]["0"])
                        old = dict(regular, size="1048576", flags=["in-reencryption"])
                        rest = dict(regular, offset=str(int(regular["offset"]) + 1048576), iv_tweak="2048")
                        backups = [text["segments"][name] for name in ("1", "2")]
                        text["segments"] = {str(i): s for i, s in enumerate([old, rest] + backups)}
                        text["digests"]["0"]["segments"] = ["0", "1", "2"]
                        text["digests"]["1"]["segments"] = ["0", "3"]
                        raw = json.dumps(text).encode()
                        data[place + 4096:place + 16384] = raw.ljust(12288, b"\\0")
                        data[place + 448:place + 512] = bytes(64)
                        data[place + 448:place + 480] = hashlib.sha256(data[place:place + 16384]).digest()
                    open(sys.argv[1], "wb").write(data)
                    """, path,
                ])
            try await maker.cryptsetup(["luksDump", path])
            try await Program.expectRefusal(
                ["serve", path] + secret + socket(maker), status: 65, saying: "state crash",
                "cryptsetup reencrypt --resume-only")
            let report = try await InfoReport.of(path)
            #expect(report.virtualSize == nil && report.luks?.cipher == "aes-xts-plain64")
            #expect(report.luks?.differences == [])
            #expect(
                report.luks?.verdict.weak.compactMap(\.command) == [
                    "cryptsetup reencrypt --resume-only --force-offline-reencrypt \(path)"
                ])
        }
    }

    private func serves(_ maker: LUKSMaker, _ arguments: [String], size: Int) async throws {
        #expect(try await read(maker, arguments).count == size)
    }

    /// All of the decrypted disk.
    private func read(_ maker: LUKSMaker, _ arguments: [String]) async throws -> Data {
        let copy = maker.directory.file("copy-\(UInt32.random(in: 0...UInt32.max))")
        try await ServerUnderTest.run(["serve"] + arguments + socket(maker), in: maker.directory) { server in
            try await Tool.succeed("nbdcopy", [server.uri, copy])
        }
        return try File.contents(copy)
    }

    private func socket(_ maker: LUKSMaker) -> [String] { ["--socket", maker.directory.file("s")] }

    private func withContainer(
        _ body: (LUKSMaker, _ path: String, _ secret: [String]) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory)
        let path = try await maker.format()
        let secret = ["--passphrase-file", try directory.write("p", text: "correct horse")]
        try await body(maker, path, secret)
    }
}
