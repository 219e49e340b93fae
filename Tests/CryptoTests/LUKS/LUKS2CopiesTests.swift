// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import TestSupport
import Testing

@Suite struct LUKS2CopiesTests {
    private static let repair =
        "`cryptsetup repair DEVICE` writes it anew (the device or file that holds the header; for a disk in an image, where "
        + "cryptsetup sees the disk)"

    private static func read(_ image: LUKSTestImage) throws -> LUKSVolume { try LUKSHeaderTests.read(image) }

    @Test(arguments: [16384, 32768, 65536, 131_072, 262_144, 524_288, 1 << 20, 2 << 20, 4 << 20])
    func `a header may have any of nine sizes, and its secondary copy is found at each`(size: Int) throws {
        var fixture = LUKS2Fixture()
        fixture.copySize = size
        fixture.fileSize = 64 << 20
        fixture.json =
            fixture.json
            .replacing("\"12288\"", with: "\"\(size - 4096)\"").replacing("\"1048576\"", with: "\"33554432\"")
            .replacing("\"32768\"", with: "\"\(2 * size)\"").replacing("\"290816\"", with: "\"\(2 * size + 258_048)\"")
        var image = fixture.image
        let volume = try Self.read(image)
        #expect(volume.copy?.isPrimary == true && volume.copy?.size == UInt64(size) && volume.warnings.isEmpty)
        #expect(volume.headerSize == UInt64(2 * size + 524_288))
        // Without a start, nobody says where the secondary copy is.
        image.bytes.replaceSubrange(0..<4096, with: [UInt8](repeating: 0, count: 4096))
        let rescued = try Self.read(image)
        #expect(rescued.copy?.isPrimary == false && rescued.copy?.size == UInt64(size))
        #expect(
            rescued.warnings == [
                "the primary copy of the LUKS2 header is damaged, so the secondary one is used (LUKS2 header (primary copy): "
                    + "magic at byte 0: found 000000000000, allowed 4c554b53babe); \(Self.repair)"
            ])
    }

    @Test(arguments: [(UInt64(8), UInt64(7), true), (7, 8, false), (0, .max, false)])
    func `the copy with the higher sequence id is used`(primary: UInt64, secondary: UInt64, isPrimary: Bool) throws {
        var fixture = LUKS2Fixture()
        fixture.sequenceIDs = (primary, secondary)
        fixture.secondaryJSON = fixture.json.replacing("\"key_size\":64,\"af\"", with: "\"key_size\":32,\"af\"")
        let volume = try Self.read(fixture.image)
        #expect(volume.copy?.isPrimary == isPrimary && volume.copy?.sequenceID == max(primary, secondary))
        #expect(volume.keyslots[0].keySize == (isPrimary ? 64 : 32))
        #expect(volume.warnings.count == 1)
        #expect(
            volume.warnings[0].hasPrefix(
                "the \(isPrimary ? "secondary" : "primary") copy of the LUKS2 header is older (sequence id "
                    + "\(min(primary, secondary))) than the \(isPrimary ? "primary" : "secondary") one"))
    }

    @Test(arguments: [0, 1, 7, 8, 15, 16, 100, 168, 208, 256, 300, 448, 479, 512, 4095, 4096, 5000, 16383])
    func `one damaged copy is no harm: the other is used, with a warning`(byte: Int) throws {
        for (offset, isPrimary) in [(0, false), (16384, true)] {
            var image = LUKS2Fixture().image
            image.bytes[offset + byte] ^= 0x40
            let volume = try Self.read(image)
            #expect(volume.copy?.isPrimary == isPrimary && volume.keyslots.count == 2)
            let damaged = isPrimary ? "secondary" : "primary"
            #expect(volume.warnings.count == 1)
            #expect(volume.warnings[0].hasPrefix("the \(damaged) copy of the LUKS2 header is damaged, so the "))
            #expect(volume.warnings[0].contains("(LUKS2 header (\(damaged) copy): "))
            #expect(volume.warnings[0].hasSuffix("; \(Self.repair)"))
        }
    }

    @Test func `JSON that is wrong under a right checksum makes a copy count as damaged`() throws {
        var fixture = LUKS2Fixture()
        fixture.secondaryJSON = fixture.json.replacing("4000", with: "3999", maxReplacements: 1)
        // Newer, and yet not used.
        fixture.sequenceIDs = (7, 9)
        let volume = try Self.read(fixture.image)
        #expect(volume.copy?.isPrimary == true)
        #expect(
            volume.warnings.first?.contains(
                "(LUKS2 metadata: keyslots.0.af.stripes at byte 20480: found the number 3999, allowed the number 4000)")
                == true)
    }

    @Test func `a copy on bad sectors counts as damaged`() throws {
        let image = LUKS2Fixture().image
        for (byte, isPrimary) in [(UInt64(5), false), (5000, false), (16390, true), (30000, true)] {
            let device = MemoryDevice(image.bytes + [UInt8](repeating: 0, count: Int(image.size) - image.bytes.count))
            device.faults.unreadableByte = byte
            let volume = try #require(try LUKSHeaderTests.read(device))
            #expect(volume.copy?.isPrimary == isPrimary)
            #expect(volume.warnings.first?.contains("found bytes that cannot be read") == true)
        }
    }

    @Test(arguments: ["online-reencrypt", "online-reencrypt-v2"])
    func `while a reencryption is under way nobody is told to restore an older header`(requirement: String) throws {
        for isInReencryption in [false, true] {
            var fixture = LUKS2Fixture()
            fixture.json = fixture.json.replacing("\"stripes\":4000", with: "\"stripes\":3999")
            if isInReencryption {
                fixture.json = fixture.json.replacing(
                    "\"config\":{", with: "\"config\":{\"requirements\":{\"mandatory\":[\"\(requirement)\"]},")
            }
            // Damage that both copies agree on, and damage of different kinds.
            var different = fixture.image
            different.bytes[16384 + 5000] ^= 1
            var noMagic = fixture.image
            noMagic.bytes[448] ^= 1
            noMagic.bytes[16384] ^= 1
            for image in [fixture.image, different, noMagic] {
                let error = try #require(throws: FormatError.self) { try Self.read(image) }
                #expect(error.description.contains("luksHeaderRestore") == !isInReencryption, "\(error)")
                #expect(error.description.contains("do not restore an older header") == isInReencryption, "\(error)")
                #expect(error.description.contains("--resume-only") == isInReencryption, "\(error)")
            }
        }
    }
}
