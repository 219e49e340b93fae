// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import TestSupport
import Testing

@Suite struct LUKSPlaintextTests {
    private static func volume(_ change: (String) -> String) throws -> LUKSVolume {
        var fixture = LUKS2Fixture()
        fixture.json = change(fixture.json)
        return try LUKSHeaderTests.read(fixture.image)
    }

    private static func linear(flags: String = "") throws -> LUKSVolume {
        try volume {
            $0.replacing("\"size\":\"dynamic\"", with: "\"size\":\"8192\"").replacing(
                "\"sector_size\":4096}",
                with:
                    "\"sector_size\":4096},\"1\":{\"type\":\"linear\",\"offset\":\"1056768\",\"size\":\"dynamic\"\(flags)}"
            )
        }
    }

    @Test(arguments: [
        "cipher_null", "cipher_null-ecb", "null", "null-ecb", "cipher_null-cbc-plain64", "capi:ecb(cipher_null)",
        "capi:cbc(cipher_null-generic)-plain64", "CIPHER_NULL-ecb",
    ])
    func `a null cipher is one in every form, for a segment and for a keyslot`(name: String) throws {
        #expect(LUKSPlaintext.isNull(name))
        let segment = try Self.volume {
            $0.replacing(
                "\"encryption\":\"aes-xts-plain64\",\"sector_size\"",
                with: "\"encryption\":\"\(name)\",\"sector_size\"")
        }
        #expect(LUKSPlaintext.all(in: segment).map(\.part) == [.nullSegment(0, encryption: name)])
        let keyslot = try Self.volume {
            $0.replacing(
                "\"encryption\":\"aes-xts-plain64\",\"key_size\":32",
                with: "\"encryption\":\"\(name)\",\"key_size\":32")
        }
        #expect(LUKSPlaintext.all(in: keyslot).map(\.part) == [.nullKeyslot(1, encryption: name)])
        for volume in [segment, keyslot] {
            let error = try #require(throws: FormatError.self) {
                try LUKSSegments(volume, allowing: .linearSegments)
            }
            #expect(error.code == .unsupported && error.description.hasSuffix("add nullCipher"))
            try LUKSPlaintext.check(volume, allowing: .nullCipher)
        }
    }

    @Test(arguments: ["aes-xts-plain64", "aes-cbc-null", "capi:cbc(aes)-null", "aes-cbc-essiv:sha256"])
    func `the vector null is no null cipher`(name: String) { #expect(!LUKSPlaintext.isNull(name)) }

    @Test func `a linear segment is refused unless it is allowed by name`() throws {
        let volume = try Self.linear()
        #expect(LUKSPlaintext.all(in: volume).map(\.part) == [.linearSegment(1)])
        let error = try #require(throws: FormatError.self) { try LUKSSegments(volume, allowing: .nullCipher) }
        #expect(error.code == .unsupported)
        #expect(
            error.description
                == "segment 1 is linear: its data is not encrypted; anybody could have changed the header to say so; if "
                + "that is what you expect, add linearSegments")
        _ = try LUKSSegments(volume, allowing: .linearSegments)
    }

    @Test func `what a reencryption keeps is no part of the disk`() throws {
        let volume = try Self.linear(flags: ",\"flags\":[\"backup-final\"]")
        #expect(volume.segments.count == 2 && volume.disk.map(\.number) == [0])
        #expect(LUKSPlaintext.all(in: volume).isEmpty)
    }

    @Test func `a null keyslot that holds no key of the data is not in the way`() throws {
        let volume = try Self.volume {
            $0.replacing(
                "\"encryption\":\"aes-xts-plain64\",\"key_size\":32", with: "\"encryption\":\"null\",\"key_size\":32"
            ).replacing("\"keyslots\":[\"0\",\"1\"]", with: "\"keyslots\":[\"0\"]")
        }
        #expect(LUKSPlaintext.all(in: volume).isEmpty)
        _ = try LUKSSegments(volume, allowing: [])
    }

    @Test func `what is served without permission has gone through a cipher`() throws {
        let image = LUKS2Fixture().image
        #expect(LUKSServedBytes.inTheClear(try LUKSHeaderTests.read(image), over: image.device) == nil)
        // The look itself finds what is allowed by name.
        let linear = try Self.linear()
        #expect(LUKSServedBytes.inTheClear(linear, over: image.device) == nil)
        #expect(
            LUKSServedBytes.inTheClear(linear, over: image.device, allowing: .linearSegments)
                == "segment 1 is served as it is stored")
        let null = try Self.volume {
            $0.replacing(
                "\"encryption\":\"aes-xts-plain64\",\"sector_size\"", with: "\"encryption\":\"null\",\"sector_size\"")
        }
        #expect(LUKSServedBytes.inTheClear(null, over: image.device) == nil)
        #expect(
            LUKSServedBytes.inTheClear(null, over: image.device, allowing: .nullCipher)
                == "segment 0 is served as it is stored")
    }

    @Test func `LUKS1 with the null cipher is in the clear, its data and its keyslots`() throws {
        var image = LUKS1Fixture.image
        image.bytes.replaceSubrange(8..<40, with: Array("cipher_null".utf8) + [UInt8](repeating: 0, count: 21))
        image.bytes.replaceSubrange(40..<72, with: Array("ecb".utf8) + [UInt8](repeating: 0, count: 29))
        let volume = try LUKSHeaderTests.read(image)
        #expect(LUKSPlaintext.all(in: volume).count == 3)
        #expect(throws: FormatError.self) { try LUKSSegments(volume, allowing: .linearSegments) }
        _ = try LUKSSegments(volume, allowing: .nullCipher)
    }
}
