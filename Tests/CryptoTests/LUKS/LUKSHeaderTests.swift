// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Foundation
import TestSupport
import Testing

@Suite struct LUKSHeaderTests {
    /// A header by cryptsetup or QEMU: Tests/Fixtures/luks/README.md.
    static func real(_ name: String) throws -> LUKSHeaderDevice {
        let directory = URL(filePath: "\(#filePath)").deletingLastPathComponent()
        let data = try Data(contentsOf: directory.appending(path: "../../Fixtures/luks/\(name).bin"))
        return LUKSHeaderDevice(Array(data), size: 18 << 20)
    }

    static func read(_ device: any BlockDevice, isDetached: Bool = false) throws(FormatError) -> LUKSVolume? {
        try LUKSVolume.read(from: device, dataSize: device.size, isDetached: isDetached)
    }

    static func read(_ image: LUKSTestImage) throws -> LUKSVolume { try #require(try read(image.device)) }

    @Test(arguments: [
        ("xts", "aes-xts-plain64", 64, 256_000, 4096), ("ragged", "aes-cbc-plain", 24, 96256, 2048),
        ("ecb", "aes-ecb", 16, 64000, 2048), ("qemu", "aes-xts-plain64", 64, 256_000, 4040),
    ])
    func `LUKS1 headers by cryptsetup and QEMU are read`(
        name: String, encryption: String, keySize: Int, areaSize: UInt64, payload: UInt64
    ) throws {
        let volume = try #require(try Self.read(Self.real("luks1-\(name)")))
        #expect(volume.version == 1 && volume.uuid.count == 36 && volume.copy == nil && volume.warnings.isEmpty)
        let keyslot = try #require(volume.keyslots.first)
        #expect(volume.keyslots.count == 1 && keyslot.number == 0 && keyslot.stripes == 4000)
        #expect(keyslot.area == ByteRange(offset: 4096, length: areaSize))
        #expect(keyslot.encryption == encryption && keyslot.keySize == keySize && keyslot.splitHash == "sha256")
        let kind = LUKSSegment.Kind.crypt(encryption: encryption, sectorSize: 512, ivTweak: 0)
        #expect(volume.segments.count == 1 && volume.segments[0].kind == kind)
        #expect(volume.segments[0].offset == payload * 512 && volume.segments[0].size == nil)
        #expect(volume.digests.count == 1 && volume.digests[0].digest.count == 20)
        #expect(volume.digests[0].keyslots == [0] && volume.digests[0].segments == [0])
        // The areas of all eight keyslots.
        #expect(volume.headerSize > 7 * UInt64(keySize) * 4000 && volume.headerSize <= payload * 512)
        try LUKSSupport.check(volume)
    }

    @Test func `a LUKS2 header by cryptsetup is read in full`() throws {
        let volume = try #require(try Self.read(Self.real("luks2-many")))
        #expect(volume.version == 2 && volume.uuid == "6c756b73-0000-4000-8000-00000000000a")
        #expect(volume.label == "label" && volume.subsystem == "subsystem" && volume.warnings.isEmpty)
        #expect(volume.keyslots.map(\.number) == [0, 1, 2, 5] && volume.otherKeyslots.isEmpty)
        #expect(volume.keyslots.map(\.priority) == [.prefer, .ignore, .normal, .normal])
        #expect(volume.keyslots.map(\.keySize) == [64, 64, 64, 32])
        #expect(
            volume.keyslots.map(\.derivation.function) == [
                .pbkdf2(hash: "sha256", iterations: 1000), .argon2i(time: 4, memory: 32, lanes: 1),
                .argon2id(time: 5, memory: 64, lanes: 2), .pbkdf2(hash: "sha256", iterations: 1000),
            ])
        #expect(volume.keyslots.allSatisfy { $0.derivation.salt.count == 32 && $0.encryption == "aes-xts-plain64" })
        #expect(volume.keyslots[0].area == ByteRange(offset: 32768, length: 258_048))
        // The unbound keyslot has a digest, which names no segment.
        #expect(volume.digests.map(\.keyslots) == [[0, 1, 2], [5]] && volume.digests.map(\.segments) == [[0], []])
        #expect(volume.tokens.map(\.type) == ["luks2-keyring"] && volume.tokens[0].keyslots.isEmpty == false)
        #expect(volume.segments.map(\.offset) == [16 << 20] && volume.headerSize == 16 << 20)
        #expect(volume.copy?.size == 16384 && volume.copy?.isPrimary == true)
        try LUKSSupport.check(volume)
    }

    @Test func `what is no LUKS header is nil, not an error`() throws {
        #expect(try Self.read(MemoryDevice([])) == nil)
        #expect(try Self.read(MemoryDevice([0x4C, 0x55, 0x4B])) == nil)
        #expect(try Self.read(MemoryDevice([UInt8](repeating: 0, count: 9 << 20))) == nil)
        #expect(try Self.read(MemoryDevice([UInt8](repeating: 0x4C, count: 100_000))) == nil)
        // The mark of a second copy alone, where somebody may have stored one as data, is none either.
        var image = LUKSTestImage(bytes: [UInt8](repeating: 1, count: 65536), size: 65536)
        image.bytes.replaceSubrange(16384..<16392, with: [0x53, 0x4B, 0x55, 0x4C, 0xBA, 0xBE, 0, 2])
        #expect(try Self.read(image.device) == nil)
    }

    @Test func `a device that insists on whole sectors is read, too`() throws {
        let image = LUKS2Fixture().image
        let bytes = image.bytes + [UInt8](repeating: 0, count: Int(image.size) - image.bytes.count)
        #expect(try Self.read(MemoryDevice(bytes, alignment: 4096))?.keyslots.count == 2)
    }

    @Test func `a start that cannot be read is an error of the file, not of the header`() throws {
        let device = MemoryDevice([UInt8](repeating: 0, count: 65536))
        device.faults.unreadableByte = 100
        let error = #expect(throws: FormatError.self) { try Self.read(device) }
        #expect(error?.code == .unreadable)
    }

    @Test func `garbage in an inactive keyslot of LUKS1 is let through where it does no harm`() throws {
        var image = LUKS1Fixture.image
        image.bytes.replaceSubrange(
            LUKS1Fixture.slot(1) + 4..<LUKS1Fixture.slot(1) + 40, with: [UInt8](repeating: 0xAA, count: 36))
        #expect(try Self.read(image).keyslots.map(\.number) == [0, 2])
    }

    @Test func `a LUKS1 volume may have one sector of data, at any sector, in a file of any length`() throws {
        var image = LUKS1Fixture.image
        image.bytes.replaceSubrange(104..<108, with: [0, 0, 0x10, 0x01])
        image.size = 4097 * 512 + 512 + 511
        #expect(try Self.read(image).segments[0].offset == 4097 * 512)
    }

    @Test func `the place of the data does not matter when it is elsewhere`() throws {
        for (payload, dataSize) in [(UInt8(0), UInt64(512)), (1, 1024), (255, 1 << 20)] {
            var image = LUKS1Fixture.image
            image.bytes.replaceSubrange(104..<108, with: [0, 0, 0, payload])
            let volume = try LUKSVolume.read(from: image.device, dataSize: dataSize, isDetached: true)
            #expect(volume?.segments[0].offset == UInt64(payload) * 512)
        }
        var fixture = LUKS2Fixture()
        fixture.json = fixture.json.replacing("\"1048576\"", with: "\"0\"")
        #expect(
            try LUKSVolume.read(from: fixture.image.device, dataSize: 4096, isDetached: true)?.segments[0].offset == 0)
        #expect(try LUKSVolume.read(from: fixture.image.device, dataSize: nil, isDetached: true) != nil)
        let error = #expect(throws: FormatError.self) {
            try LUKSVolume.read(from: fixture.image.device, dataSize: 4095, isDetached: true)
        }
        #expect(
            error?.description.contains("found data at 0, allowed data within the 4095 bytes of the device") == true)
    }

    @Test func `a header without its data says how to name both`() throws {
        var header = LUKS1Fixture.image
        header.bytes.replaceSubrange(104..<108, with: [0, 0, 0, 0])
        var backup = LUKS2Fixture()
        backup.fileSize = 1 << 20
        for image in [header, backup.image] {
            let error = #expect(throws: FormatError.self) { try Self.read(image.device) }
            #expect(error?.description.contains("with luksHeader") == true)
        }
    }
}
