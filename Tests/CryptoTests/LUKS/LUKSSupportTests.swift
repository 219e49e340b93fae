// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import TestSupport
import Testing

@Suite struct LUKSSupportTests {
    private static func refusal(_ change: (String) -> String) throws -> String {
        var fixture = LUKS2Fixture()
        fixture.json = change(fixture.json)
        let volume = try LUKSHeaderTests.read(fixture.image)
        let error = try #require(throws: FormatError.self) { try LUKSSupport.check(volume) }
        #expect(error.code == .unsupported)
        // Nothing allows it.
        #expect(throws: error) { try LUKSSegments(volume, allowing: [.linearSegments, .nullCipher]) }
        return error.description
    }

    private static func requirement(_ name: String) throws -> String {
        try refusal {
            $0.replacing("\"config\":{", with: "\"config\":{\"requirements\":{\"mandatory\":[\"\(name)\"]},")
        }
    }

    @Test func `a reencryption that cryptsetup has begun is refused, with what the metadata tells of it`() throws {
        let initialised = try #require(try LUKSHeaderTests.read(LUKSHeaderTests.real("luks2-reencrypt")))
        #expect(initialised.isOnlyInitialised)
        try LUKSSupport.check(initialised)
        // The data is elsewhere, or one copy is of another time.
        let device = try LUKSHeaderTests.real("luks2-reencrypt")
        var bytes = try device.read(count: 32768, at: 0)
        bytes[16384 + 4096 + 20] ^= 1
        let volume = try #require(try LUKSHeaderTests.read(LUKSHeaderDevice(bytes, size: device.size)))
        #expect(!volume.isOnlyInitialised)
        #expect(volume.requirements == ["online-reencrypt-v2"] && volume.otherKeyslots.map(\.type) == ["reencrypt"])
        let error = try #require(throws: FormatError.self) { try LUKSSupport.check(volume) }
        #expect(
            error.description
                == "the LUKS2 volume is in the middle of a reencryption (mode reencrypt, direction forward, resilience "
                + "checksum, state clean: it stopped between two steps, requirement online-reencrypt-v2), which nbdecrypt "
                + "does not read; finish it with `cryptsetup reencrypt --resume-only DEVICE` (with --force-offline-reencrypt if that "
                + "is a file, and --header FILE if the header is in another file; for a disk in an image, where cryptsetup sees the disk)"
        )
    }

    @Test(arguments: ["online-reencrypt", "online-reencrypt-v2", "online-reencrypt-v3", "online-reencrypt-v4"])
    func `every requirement of an online reencryption is refused as one`(name: String) throws {
        let sentence = try Self.requirement(name)
        #expect(sentence.contains("requirement \(name)") && sentence.contains("reencrypt --resume-only"))
    }

    @Test func `an offline reencryption is refused, with the program that finishes it`() throws {
        #expect(try Self.requirement("offline-reencrypt").contains("cryptsetup-reencrypt of a cryptsetup before 2.5"))
    }

    @Test func `a reencryption shows without its requirement: by its keyslot, by a backup segment, by a crash`() throws
    {
        let keyslot = try Self.refusal {
            $0.replacing(
                "\"keyslots\":{\"0\"",
                with: "\"keyslots\":{\"2\":{\"type\":\"reencrypt\",\"key_size\":1,\"mode\":\"decrypt\","
                    + "\"direction\":\"backward\",\"area\":{\"type\":\"journal\",\"offset\":\"548864\",\"size\":\"4096\"}},\"0\""
            )
        }
        #expect(keyslot.contains("(mode decrypt, direction backward, resilience journal, state clean"))
        let backup = try Self.refusal {
            $0.replacing(
                "\"sector_size\":4096}",
                with: "\"sector_size\":4096},\"1\":{\"type\":\"linear\","
                    + "\"offset\":\"1048576\",\"size\":\"dynamic\",\"flags\":[\"backup-previous\"]}")
        }
        #expect(backup.contains("(state clean: it stopped between two steps)"))
        let crash = try Self.refusal {
            $0.replacing("\"sector_size\":4096}", with: "\"sector_size\":4096,\"flags\":[\"in-reencryption\"]}")
        }
        #expect(crash.contains("(state crash: it stopped in the middle of a step)"))
    }

    /// A segment that is being reencrypted, as cryptsetup leaves it when it is killed: two keys may decrypt it.
    private static func crashed(_ json: String, requirement: String = "") -> String {
        let start = json.firstRange(of: "\"digests\":{")?.upperBound ?? json.startIndex
        let end = json.firstRange(of: "},\"config\"")?.lowerBound ?? json.endIndex
        let second = json[start..<end].replacing("\"0\":{", with: "\"1\":{")
        return "\(json[..<end]),\(second)\(json[end...])"
            .replacing("\"sector_size\":4096}", with: "\"sector_size\":4096,\"flags\":[\"in-reencryption\"]}")
            .replacing("\"config\":{", with: "\"config\":{\(requirement)")
    }

    @Test(arguments: ["", "\"requirements\":{\"mandatory\":[\"online-reencrypt-v2\"]},"])
    func `a reencryption that was stopped in a step is no damage: the old and the new digest name its segment`(
        requirement: String
    ) throws {
        let sentence = try Self.refusal { Self.crashed($0, requirement: requirement) }
        #expect(sentence.contains("state crash: it stopped in the middle of a step"))
        #expect(sentence.contains("finish it with `cryptsetup reencrypt --resume-only DEVICE`"))
        // Also when one copy was written a step earlier.
        var fixture = LUKS2Fixture()
        fixture.secondaryJSON = fixture.json
        fixture.json = Self.crashed(fixture.json, requirement: requirement)
        fixture.sequenceIDs = (8, 7)
        let volume = try LUKSHeaderTests.read(fixture.image)
        #expect(volume.copy?.isPrimary == true && volume.isInReencryption && volume.digests.count == 2)
    }

    @Test func `three digests are too many for any segment`() throws {
        var fixture = LUKS2Fixture()
        let json = Self.crashed(fixture.json)
        let third = json.firstRange(of: "\"1\":{\"type\":\"pbkdf2\"")?.lowerBound ?? json.startIndex
        let end = json.firstRange(of: "},\"config\"")?.lowerBound ?? json.endIndex
        fixture.json =
            "\(json[..<end]),\(json[third..<end].replacing("\"1\":{\"type", with: "\"2\":{\"type"))\(json[end...])"
        let error = try #require(throws: FormatError.self) { try LUKSHeaderTests.read(fixture.image) }
        #expect(error.description.contains("a segment that 3 digests name"), "\(error)")
    }

    @Test func `a reencryption that moves data is refused as one, though its segments are in no order`() throws {
        // As cryptsetup 2.6.1 writes it for reencrypt --encrypt --init-only --reduce-device-size.
        let segments = """
            {"0":{"type":"linear","offset":"1572864","size":"65536"},"1":{"type":"linear","offset":"1048576",\
            "size":"131072"},"2":{"type":"linear","offset":"1572864","size":"65536","flags":["backup-moved-segment"]},\
            "3":{"type":"linear","offset":"0","size":"196608","flags":["backup-previous"]},"4":{"type":"crypt",\
            "offset":"1048576","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512,\
            "flags":["backup-final"]}}
            """
        let sentence = try Self.refusal {
            let start = $0.firstRange(of: "\"segments\":")?.upperBound ?? $0.startIndex
            let end = $0.firstRange(of: ",\"digests\":")?.lowerBound ?? $0.endIndex
            return ($0[..<start] + segments + $0[end...])
                .replacing("\"segments\":[\"0\"]", with: "\"segments\":[\"4\"]")
                .replacing(
                    "\"config\":{", with: "\"config\":{\"requirements\":{\"mandatory\":[\"online-reencrypt-v2\"]},")
        }
        #expect(sentence.contains("in the middle of a reencryption"))
    }

    @Test func `integrity is refused by its name`() throws {
        let sentence = try Self.refusal {
            $0.replacing(
                "\"sector_size\":4096",
                with: "\"sector_size\":4096,\"integrity\":{\"type\":\"hmac(sha256)\",\"journal_encryption\":\"none\","
                    + "\"journal_integrity\":\"none\"}")
        }
        #expect(
            sentence.contains(
                "segment 0 of the LUKS2 volume has integrity protection (hmac(sha256) with aes-xts-plain64)"))
    }

    @Test(arguments: ["hw-opal", "hw-opal-crypt"])
    func `OPAL is refused by its name`(type: String) throws {
        #expect(try Self.refusal { $0.replacing("\"crypt\"", with: "\"\(type)\"") }.contains("(OPAL, \(type))"))
        #expect(try Self.requirement("opal").contains("(OPAL, opal)"))
    }

    @Test func `tags in the sectors of a drive are refused by their name`() throws {
        #expect(try Self.requirement("inline-hw-tags").contains("requirement inline-hw-tags"))
    }

    @Test func `requirements and segment types that are not known are refused by their name`() throws {
        #expect(
            try Self.requirement("quantum").contains("which nbdecrypt does not: quantum; use the version of cryptsetup")
        )
        #expect(
            try Self.refusal { $0.replacing("\"crypt\"", with: "\"zoned\"") }.contains("is of type \"zoned\", which"))
        // As the specification shows them, which is not as cryptsetup writes them.
        let array = try Self.refusal {
            $0.replacing("\"config\":{", with: "\"config\":{\"requirements\":[\"quantum\"],")
        }
        #expect(array.contains("quantum"))
    }

    @Test func `unknown fields, tokens and keyslot types, and flags, are no obstacle`() throws {
        var fixture = LUKS2Fixture()
        fixture.json =
            fixture.json
            .replacing(
                "\"tokens\":{",
                with: "\"tokens\":{\"7\":{\"type\":\"clevis\",\"keyslots\":[],\"jwe\":{\"a\":[1.5e3,null,true]}},"
            )
            .replacing("\"config\":{", with: "\"config\":{\"flags\":[\"allow-discards\"],\"new\":{\"x\":-1},")
            .replacing(
                "\"keyslots\":{\"0\"",
                with:
                    "\"keyslots\":{\"9\":{\"type\":\"future\",\"area\":{\"offset\":\"548864\",\"size\":\"4096\"}},\"0\""
            )
        let volume = try LUKSHeaderTests.read(fixture.image)
        #expect(volume.tokens.map(\.type) == ["luks2-keyring", "clevis"] && volume.flags == ["allow-discards"])
        #expect(volume.otherKeyslots.map(\.type) == ["future"] && volume.keyslots.map(\.number) == [0, 1])
        try LUKSSupport.check(volume)
    }

    /// A part of keyslot 1 that a later version, or one of before, may have; and what is said of it.
    static let unknownParts = [
        ("\"type\":\"argon2id\"", "\"type\":\"argon2\"", "its key derivation \"argon2\" is not known here"),
        ("\"type\":\"argon2id\",\"time\":4", "\"type\":\"balloon\",\"space\":{}", "its key derivation \"balloon\""),
        (
            "\"type\":\"raw\",\"offset\":\"290816\",\"size\":\"258048\"", "\"type\":\"striped\",\"disks\":[]",
            "its type of area \"striped\""
        ),
        (
            "\"af\":{\"type\":\"luks1\",\"stripes\":4000,\"hash\":\"sha512\"}", "\"af\":{\"type\":\"none\"}",
            "its way to split keys \"none\""
        ),
        ("\"type\":\"luks2\",\"key_size\":64,\"priority\"", "\"type\":\"luks3\",\"priority\"", "its type \"luks3\""),
    ]

    @Test(arguments: unknownParts)
    func `what is not known makes its keyslot unusable, by name, and not the header`(
        old: String, new: String, reason: String
    ) throws {
        var fixture = LUKS2Fixture()
        try #require(fixture.json.contains(old))
        fixture.json = fixture.json.replacing(old, with: new)
        let volume = try LUKSHeaderTests.read(fixture.image)
        #expect(volume.warnings.isEmpty && volume.keyslots.map(\.number) == [0])
        #expect(volume.otherKeyslots.map(\.number) == [1])
        #expect(volume.otherKeyslots.first?.reason.hasPrefix(reason) == true)
        #expect(volume.digests.map(\.keyslots) == [[0, 1]])
        _ = try LUKSSegments(volume, allowing: [])
        var options = LUKSUnlock.Options()
        try LUKSUnlock(volume, header: fixture.image.device, options: options).prepare(volumeKeyCount: 0)
        options.keyslot = 1
        let error = try #require(throws: UnlockError.self) {
            try LUKSUnlock(volume, header: fixture.image.device, options: options).prepare(volumeKeyCount: 0)
        }
        #expect(error.code == .refused && error.description.contains("keyslot 1 cannot be used: \(reason)"))
    }

    @Test func `a backup segment that is not known here is no damage, and no part of the disk`() throws {
        for backup in [
            "\"type\":\"zoned\",\"zones\":[]", "\"type\":\"crypt\",\"sector_size\":8192",
        ] {
            let sentence = try Self.refusal {
                $0.replacing(
                    "\"sector_size\":4096}",
                    with: "\"sector_size\":4096},\"1\":{\(backup),"
                        + "\"offset\":\"1048576\",\"size\":\"dynamic\",\"flags\":[\"backup-final\"]}")
            }
            #expect(sentence.contains("in the middle of a reencryption"))
        }
    }

    @Test func `several segments are read in their order, fixed and dynamic, encrypted and not`() throws {
        var fixture = LUKS2Fixture()
        fixture.json = fixture.json
            .replacing(
                "\"size\":\"dynamic\",\"iv_tweak\":\"0\"",
                with: "\"size\":\"8192\",\"iv_tweak\":\"18446744073709551615\""
            )
            .replacing(
                "\"sector_size\":4096}",
                with: "\"sector_size\":4096},\"1\":{\"type\":\"linear\",\"offset\":\"1056768\",\"size\":\"dynamic\"}")
        let volume = try LUKSHeaderTests.read(fixture.image)
        #expect(volume.segments.map(\.offset) == [1_048_576, 1_056_768] && volume.segments.map(\.size) == [8192, nil])
        #expect(
            volume.segments.map(\.kind) == [
                .crypt(encryption: "aes-xts-plain64", sectorSize: 4096, ivTweak: .max), .linear,
            ])
        try LUKSSupport.check(volume)
    }
}
