// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `nbdecrypt info` of LUKS containers.
@Suite(.fewAtATime)
struct LUKSInfoTests {
    /// Part of the output of `cryptsetup luksDump --dump-json-metadata`.
    private struct Metadata: Decodable {
        struct Keyslot: Decodable {
            struct Area: Decodable {
                let offset: String
                let size: String
                let encryption: String
            }

            let keySize: Int
            let area: Area

            enum CodingKeys: String, CodingKey {
                case keySize = "key_size"
                case area
            }
        }

        struct Segment: Decodable {
            let offset: String
            let encryption: String
            let sectorSize: Int

            enum CodingKeys: String, CodingKey {
                case offset, encryption
                case sectorSize = "sector_size"
            }
        }

        let keyslots: [String: Keyslot]
        let segments: [String: Segment]
    }

    @Test func `it says what cryptsetup luksDump says of LUKS2`() async throws {
        try await withMaker { maker in
            let path = try await maker.format(options: [
                "--pbkdf", "argon2i", "--pbkdf-force-iterations", "5", "--pbkdf-memory", "12345", "--pbkdf-parallel",
                "2", "--sector-size", "2048", "--label", "my label", "--subsystem", "my subsystem", "--hash", "sha512",
            ])
            try await maker.addKey(
                "other", to: path,
                LUKSMaker.cheap + [
                    "--keyslot-cipher", "aes-cbc-essiv:sha256",
                    "--keyslot-key-size", "128",
                ])
            try await maker.cryptsetup(["config", path, "--key-slot", "1", "--priority", "prefer"])
            try await maker.cryptsetup(["token", "add", "--key-description", "mine", path])
            let text = try await maker.cryptsetup(["luksDump", "--dump-json-metadata", path])
            let expected = try JSONDecoder().decode(Metadata.self, from: Data(text.utf8))
            let report = try await InfoReport.of(path)
            let luks = try #require(report.luks)
            #expect(report.format == "luks" && luks.version == 2 && luks.place == "file")
            let uuid = try await maker.cryptsetup(["luksUUID", path]).dropLast()
            #expect(luks.uuid == uuid)
            #expect(luks.label == "my label" && luks.subsystem == "my subsystem")
            #expect(luks.keyslots.map { "\($0.number)" }.sorted() == expected.keyslots.keys.sorted())
            for slot in luks.keyslots {
                let other = try #require(expected.keyslots["\(slot.number)"])
                #expect(slot.keyBits == other.keySize * 8 && slot.encryption == other.area.encryption)
                #expect("\(slot.areaOffset)" == other.area.offset && "\(slot.areaSize)" == other.area.size)
            }
            #expect(luks.keyslots[0].derivation == "argon2i, time 5, memory 12345 KiB, 2 threads")
            #expect(luks.keyslots[1].encryptionKeyBits == 128 && luks.keyslots[1].priority == "prefer")
            let segment = try #require(luks.segments.first)
            #expect("\(segment.offset)" == expected.segments["0"]?.offset && segment.sectorSize == 2048)
            #expect(segment.encryption == expected.segments["0"]?.encryption && segment.size == nil)
            #expect(luks.tokens.map(\.type) == ["luks2-keyring"])
            #expect(luks.headerCopy?.name == "primary")
            #expect(report.virtualSize == UInt64(maker.size) - segment.offset)
            #expect(luks.virtualSizeReason.contains("\(maker.size) bytes of data less \(segment.offset)"))
            #expect(luks.verdict.weak.contains { $0.what.contains("12345 KiB") })
            let lines = try await Tool.succeed(try Program.path, ["info", path])
            for part in ["my label", "argon2i, time 5", "priority prefer", "sectors of 2048", "luks2-keyring", "weak:"]
            {
                #expect(lines.contains(part), "'\(part)' in \(lines)")
            }
        }
    }

    @Test func `a keyslot that opens no data is called that, and names of hashes count in any form`() async throws {
        try await withMaker { maker in
            let path = try await maker.format(options: [
                "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "220000", "--hash", "WHIRLPOOL",
            ])
            try await maker.addKey("other", to: path, LUKSMaker.cheap + ["--unbound", "--key-size", "256"])
            let text = try await Tool.succeed(try Program.path, ["info", path])
            #expect(text.split(separator: "\n").count { $0.contains("unbound: opens no data") } == 1)
            let luks = try #require(try await InfoReport.of(path).luks)
            #expect(luks.verdict.strong.contains { $0.hasPrefix("keyslot 0: 220000 iterations") })
            #expect(luks.verdict.weak.contains { $0.what.hasPrefix("keyslot 1: only 1000 iterations") })
        }
    }

    @Test func `a size that is not a multiple of the sector is explained`() async throws {
        try await withMaker { maker in
            var maker = maker
            maker.size = (16 << 20) + 4096 * 3 + 1024
            let path = try await maker.format(options: LUKSMaker.cheap + ["--sector-size", "512"])
            let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
            try handle.truncate(atOffset: UInt64(maker.size - 100))
            let report = try await InfoReport.of(path)
            #expect(report.virtualSize == 4096 * 3 + 512)
            #expect(report.luks?.virtualSizeReason.contains("rounded down to sectors of 512") == true)
        }
    }

    @Test
    func `a container of QEMU, which cryptsetup cannot convert, gets the command that makes its keyslot stronger`()
        async throws
    {
        try await withMaker { maker in
            let key = try maker.directory.write("k", text: "correct horse")
            let path = maker.directory.file("disk.luks")
            // QEMU 7.2 fails now and then to measure the processor.
            try await Tool.shell(
                """
                for i in $(seq 50); do
                    qemu-img create -q -f luks --object secret,id=s,file=\(key) -o key-secret=s,iter-time=10 \(path) 1M && break
                done
                """)
            let before = try #require(try await InfoReport.of(path).luks)
            #expect(before.verdict.weak.contains { $0.what.contains("it cannot be converted") && $0.command == nil })
            let commands = before.verdict.weak.compactMap(\.command)
            #expect(!commands.contains { $0.contains("convert --type luks2") || $0.contains("luksConvertKey") })
            let refused = try await Tool.run("cryptsetup", ["-q", "convert", "--type", "luks2", path])
            #expect(refused.code != 0)
            let change = try #require(commands.first { $0.hasPrefix("cryptsetup luksChangeKey ") })
            try await Tool.shell("\(change) -q --key-file \(key) \(key)")
            let after = try #require(try await InfoReport.of(path).luks)
            #expect(after.verdict.weak.count < before.verdict.weak.count, "\(after.verdict.weak)")
        }
    }

    @Test func `the verdict names what is weak, and its commands mend it`() async throws {
        try await withMaker { maker in
            let path = try await maker.format(
                type: "luks1", options: ["--cipher", "aes-cbc-plain", "--hash", "sha1"] + LUKSMaker.cheap.suffix(2))
            let before = try #require(try await InfoReport.of(path).luks)
            for part in ["LUKS1", "1000 iterations", "sha1 is outdated", "watermarking", "2 TiB"] {
                #expect(before.verdict.weak.contains { $0.what.contains(part) }, "\(part)")
            }
            let commands = before.verdict.weak.compactMap(\.command)
            let convert = try #require(commands.first { $0.hasPrefix("cryptsetup convert ") })
            let derive = try #require(commands.first { $0.hasPrefix("cryptsetup luksConvertKey ") })
            let key = try maker.directory.write("k", text: "correct horse")
            try await Tool.shell(
                """
                \(convert) --batch-mode
                \(derive) --batch-mode --key-file \(key) --pbkdf-memory 65536 --pbkdf-force-iterations 4
                """)
            let after = try #require(try await InfoReport.of(path).luks)
            #expect(after.version == 2)
            #expect(after.keyslots[0].derivation.hasPrefix("argon2id, time 4, memory 65536 KiB"))
            #expect(!after.verdict.weak.contains { $0.what.contains("iterations") || $0.what.contains("LUKS1") })
            #expect(after.verdict.strong.contains { $0.contains("argon2 with 65536 KiB") })
            // QEMU does not open LUKS2, and the advice says so before.
            #expect(before.verdict.weak.contains { $0.what.contains("QEMU opens LUKS1 alone, and will not open what") })
            let qemu = try await Tool.run(
                "qemu-img",
                [
                    "info", "--object", "secret,id=s,file=\(key)", "--image-opts",
                    "driver=luks,file.filename=\(path),key-secret=s",
                ])
            #expect(qemu.code != 0)
            try await runAll(after.verdict, of: [path], key, derivation: false)
            let end = try #require(try await InfoReport.of(path).luks)
            #expect(end.cipher == "aes-xts-plain64" && end.segments.map(\.sectorSize) == [4096])
            #expect(end.verdict.weak.compactMap(\.command).isEmpty, "\(end.verdict.weak)")
        }
    }

    /// Runs the commands that are printed for a container, in their order, with its passphrase from a file.
    private func runAll(
        _ verdict: InfoReport.LUKS.Verdict, of place: [String], _ key: String, derivation: Bool
    ) async throws {
        var done: Set<String> = []
        for command in verdict.weak.compactMap(\.command) where done.insert(command).inserted {
            let isOfKey = command.contains("luksConvertKey") || command.contains("reencrypt")
            let isCheap = isOfKey ? " --key-file \(key) --pbkdf-memory 65536 --pbkdf-force-iterations 4" : ""
            try await Tool.shell("\(command) --batch-mode\(isCheap)")
        }
        #expect(!done.isEmpty || !derivation, "\(place)")
    }

    @Test func `every command that is printed runs on the container it is printed for, and the disk stays the same`()
        async throws
    {
        try await withMaker { maker in
            let key = try maker.directory.write("k", text: "correct horse")
            let options =
                LUKSMaker.cheap + ["--cipher", "aes-cbc-plain64", "--key-size", "256", "--sector-size", "512"]
            let file = try await maker.format(options: options)
            // One copy of the header is damaged as well.
            try Qcow2Editor(path: file).set([0xFF], at: 4096 + 20)
            let data = try maker.directory.write("data", DiskContents(mark: 9).bytes(at: 0, count: 2 << 20, .noise))
            let header = maker.directory.file("header")
            try await maker.cryptsetup(["luksFormat", "--type", "luks2"] + options + ["--header", header, data, key])
            for place in [[file], [data, "--header", header]] {
                let before = try await contents(maker, place, key)
                let text = try await Tool.succeed(try Program.path, ["info", "--json"] + place)
                let luks = try #require(try JSONDecoder().decode(InfoReport.self, from: Data(text.utf8)).luks)
                let commands = luks.verdict.weak.compactMap(\.command)
                #expect(commands.contains { $0.hasPrefix("cryptsetup repair ") } == (place.count == 1))
                for part in ["luksConvertKey", "--cipher aes-xts-plain64", "--sector-size 4096"] {
                    #expect(commands.contains { $0.contains(part) }, "\(part) in \(commands)")
                }
                try await runAll(luks.verdict, of: place, key, derivation: true)
                #expect(try await contents(maker, place, key) == before)
                let after = try await Tool.succeed(try Program.path, ["info", "--json"] + place)
                let end = try #require(try JSONDecoder().decode(InfoReport.self, from: Data(after.utf8)).luks)
                #expect(end.verdict.weak.isEmpty && end.cipher == "aes-xts-plain64", "\(end.verdict.weak)")
            }
        }
    }

    @Test func `larger sectors are not advised where the data is not whole sectors of them`() async throws {
        try await withMaker { maker in
            var maker = maker
            maker.size = (18 << 20) + 512
            let path = try await maker.format(options: LUKSMaker.cheap + ["--sector-size", "512"])
            let luks = try #require(try await InfoReport.of(path).luks)
            #expect(!luks.verdict.weak.contains { $0.command?.contains("--sector-size") == true })
        }
    }

    @Test(arguments: ["systemd-recovery", "clevis"])
    func `a keyslot whose key a program has made at random is not weak`(_ type: String) async throws {
        try await withMaker { maker in
            let path = try await maker.format()
            try await maker.addKey(String(repeating: "random", count: 8), to: path)
            let token = try maker.directory.write("t.json", text: "{\"type\":\"\(type)\",\"keyslots\":[\"1\"]}")
            try await maker.cryptsetup(["token", "import", "--json-file", token, path])
            let verdict = try #require(try await InfoReport.of(path).luks).verdict
            #expect(verdict.strong.contains { $0.hasPrefix("keyslot 1: a random key, which \(type) keeps") })
            #expect(!verdict.weak.contains { $0.what.hasPrefix("keyslot 1") })
            #expect(verdict.weak.contains { $0.what.hasPrefix("keyslot 0: only 1000 iterations") })
        }
    }

    private func contents(_ maker: LUKSMaker, _ place: [String], _ key: String) async throws -> Data {
        let copy = maker.directory.file("copy-\(UInt32.random(in: 0...UInt32.max))")
        try await ServerUnderTest.run(
            ["serve"] + place + ["--key-file", key, "--socket", maker.directory.file("s")], in: maker.directory
        ) { server in try await Tool.succeed("nbdcopy", [server.uri, copy]) }
        return try File.contents(copy)
    }

    @Test(arguments: ["luks1", "luks2"])
    func `--check-passphrase says which keyslots open, and serves nothing`(_ type: String) async throws {
        try await withMaker { maker in
            let path = try await maker.format(type: type)
            for _ in 0..<2 { try await maker.addKey("twice", to: path) }
            let good = try maker.directory.write("good", text: "twice\n")
            let bad = try maker.directory.write("bad", text: "wrong")
            let check = ["info", path, "--check-passphrase", "--json"]
            let report = try await InfoReport.of(
                path, "--check-passphrase", "--passphrase-file", good, "--passphrase-file", bad)
            let outcomes = try #require(report.passphraseCheck?.outcomes)
            #expect(outcomes.map(\.fits) == [true, false] && outcomes.map(\.keyslots) == [[1, 2], []])
            #expect(outcomes[0].source == "the passphrase file \(good)")
            let wrong = try await Program.run(check + ["--passphrase-file", bad])
            #expect(wrong.code == 77 && wrong.errors.contains("none of these opens it"))
            let text = try await Tool.succeed(
                try Program.path, ["info", path, "--check-passphrase", "--passphrase-file", good])
            #expect(text.contains("\(good) opens keyslot 1, 2"))
            let key = maker.directory.file("volume-key")
            let secret = try maker.directory.write("first", text: "correct horse")
            try await maker.cryptsetup([
                "luksDump", "--dump-volume-key", "--volume-key-file", key, "--key-file", secret, path,
            ])
            let volume = try await InfoReport.of(path, "--check-passphrase", "--volume-key-file", key)
            #expect(volume.passphraseCheck?.outcomes.map(\.fits) == [true])
        }
    }

    @Test func `--check-passphrase judges AES images by what is on the disk`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let image = try await disk.encrypted("right")
        let good = try directory.write("good", text: "right")
        let bad = try directory.write("bad", text: "wrong")
        let report = try await InfoReport.of(
            image, "--check-passphrase", "--passphrase-file", bad, "--passphrase-file", good)
        #expect(report.passphraseCheck?.outcomes.map(\.fits) == [false, true])
        try await Program.expectRefusal(
            ["info", try disk.raw(), "-f", "raw", "--check-passphrase", "--passphrase-file", good], status: 64,
            saying: "is not encrypted")
    }

    @Test func `the header inside a qcow2 image is described, and the size is that of the image`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let secret = try directory.write("p", text: "secret")
        let path = directory.file("image.qcow2")
        try await Tool.shell(
            """
            for attempt in 1 2 3 4 5 6; do
                qemu-img create -q -f qcow2 --object secret,id=s,file=\(secret) \
                    -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \(path) 3M && break
            done
            """)
        let report = try await InfoReport.of(path)
        let luks = try #require(report.luks)
        #expect(report.virtualSize == 3 << 20 && report.encryption.method == "luks" && luks.place == "qcow2 header")
        #expect(luks.version == 1 && luks.keyslots.count == 1 && luks.cipher == "aes-xts-plain64")
        #expect(luks.verdict.weak.allSatisfy { $0.command?.hasPrefix("nbdecrypt migrate \(path) new.qcow2 ") ?? true })
        // Run as it is printed, but for the time that QEMU takes.
        let command = try #require(luks.verdict.weak.compactMap(\.command).first)
        try directory.write("new-passphrase", text: "new")
        let quick = command.replacing("--iter-time 5000", with: "--iter-time 10 --new-passphrase-file new-passphrase")
            .replacing("migrate ", with: "migrate --passphrase-file \(secret) ")
        try await Tool.shell(
            """
            cd \(directory.path)
            PATH=\((try Program.path as NSString).deletingLastPathComponent):$PATH
            \(quick)
            """)
        let renewed = try await InfoReport.of(
            directory.file("new.qcow2"), "--check-passphrase", "--key-file", directory.file("new-passphrase"))
        #expect(renewed.passphraseCheck?.outcomes.first?.keyslots == [0] && renewed.virtualSize == 3 << 20)
        let lines = try await Tool.succeed(try Program.path, ["info", path])
        #expect(lines.contains("To improve it, make a new image, with a new passphrase:\n  \(command)"))
        let text = try await Tool.succeed("qemu-img", ["info", "--output", "json", path])
        #expect(text.contains("\"uuid\": \"\(luks.uuid)\""))
        let check = try await InfoReport.of(path, "--check-passphrase", "--key-file", secret)
        #expect(check.passphraseCheck?.outcomes.first?.keyslots == [0])
    }

    private func withMaker(_ body: (LUKSMaker) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await body(LUKSMaker(directory: directory))
    }
}
