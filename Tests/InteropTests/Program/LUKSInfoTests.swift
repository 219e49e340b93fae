// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `nbdecrypt info` of LUKS containers.
@Suite("info of LUKS", .fourAtATime)
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

    @Test("It says what cryptsetup luksDump says of LUKS2")
    func agreesWithCryptsetup() async throws {
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

    @Test("A keyslot that opens no data is called that, and names of hashes count in any form")
    func unbound() async throws {
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

    @Test("A size that is not a multiple of the sector is explained")
    func rounding() async throws {
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

    @Test("The verdict names what is weak, and its commands mend it")
    func verdict() async throws {
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
            #expect(
                after.verdict.weak.contains { $0.command?.contains("cryptsetup reencrypt --cipher aes-xts") == true })
            #expect(after.verdict.strong.contains { $0.contains("argon2 with 65536 KiB") })
        }
    }

    @Test("--check-passphrase says which keyslots open, and serves nothing", arguments: ["luks1", "luks2"])
    func checkPassphrase(_ type: String) async throws {
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

    @Test("--check-passphrase judges AES images by what is on the disk")
    func checkLegacyAES() async throws {
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

    @Test("The header inside a qcow2 image is described, and the size is that of the image")
    func insideQcow2() async throws {
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
        #expect(luks.verdict.weak.allSatisfy { $0.command?.hasPrefix("nbdecrypt serve \(path) --run ") ?? true })
        let lines = try await Tool.succeed(try Program.path, ["info", path])
        #expect(lines.contains("put a new passphrase into the file new-passphrase, without a newline, and type:"))
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
