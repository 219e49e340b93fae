// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

@Suite struct Qcow2ImageTests {
    private static func cluster(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 512) }
    private static let data = UInt64(Qcow2Fixture.dataOffset)

    @Test func `each kind of cluster reads as it should`() throws {
        let fixture = Qcow2Fixture(
            entries: [Self.data + 512, 0, Self.data, 1, Self.data | 1], data: Self.cluster(0xAA) + Self.cluster(0xBB))
        let image = try fixture.image()
        let expected = Self.cluster(0xBB) + Self.cluster(0) + Self.cluster(0xAA) + Self.cluster(0) + Self.cluster(0)
        #expect(try image.read(count: 5 * 512, at: 0) == expected)
        for offset in [1, 300, 511, 512, 1000] {
            #expect(try image.read(count: 1030, at: UInt64(offset)) == Array(expected[offset..<(offset + 1030)]))
        }
    }

    @Test func `sectors are decrypted by guest number, and only where data is stored`() throws {
        var fixture = Qcow2Fixture(
            entries: [Self.data + 512, 0, Self.data, 1], data: Self.cluster(0x10) + Self.cluster(0x20))
        fixture.set(UInt32(1), at: 32)
        let image = try fixture.image(cipher: NumberCipher())
        #expect(image.alignment == 512)
        #expect(
            try image.read(count: 4 * 512, at: 0)
                == Self.cluster(0x20) + Self.cluster(0) + Self.cluster(0x12) + Self.cluster(0))
    }

    @Test func `extents tell data, zeros and nothing apart and join neighbours`() throws {
        let image = try Qcow2Fixture(
            entries: [Self.data + 512, Self.data, 0, 0, 1, Self.data | 1],
            data: Self.cluster(1) + Self.cluster(2)
        ).image()
        #expect(try image.extent(at: 0, limit: .max) == Extent(offset: 0, length: 1024, kind: .data))
        #expect(try image.extent(at: 100, limit: 50) == Extent(offset: 100, length: 50, kind: .data))
        #expect(try image.extent(at: 1024, limit: .max) == Extent(offset: 1024, length: 1024, kind: .unallocated))
        #expect(try image.extent(at: 2048, limit: .max) == Extent(offset: 2048, length: 1024, kind: .zero))
        #expect(try image.extent(at: 3072, limit: .max).kind == .unallocated)
    }

    @Test func `the extent of a hole goes on over missing L2 tables`() throws {
        var fixture = Qcow2Fixture(size: 64 * 512 * 60, entries: [Self.data], data: Self.cluster(1))
        fixture.set(UInt32(60), at: 36)
        fixture.set(UInt64(Qcow2Fixture.l2Offset), at: Qcow2Fixture.l1Offset + 59 * 8)
        let image = try fixture.image()
        let hole = try image.extent(at: 32768, limit: .max)
        #expect(hole == Extent(offset: 32768, length: 58 * 32768, kind: .unallocated))
        #expect(try image.extent(at: hole.offset + hole.length, limit: .max).kind == .data)
        #expect(try image.read(count: 59 * 32768, at: 32768).count { $0 == 1 } == 512)
    }

    @Test func `the end of the last cluster of the file may be missing and reads as zeros`() throws {
        var fixture = Qcow2Fixture(entries: [Self.data], data: Self.cluster(7))
        fixture.bytes.removeLast(100)
        let read = try fixture.image().read(count: 512, at: 0)
        #expect(read == [UInt8](repeating: 7, count: 412) + [UInt8](repeating: 0, count: 100))
        #expect(try fixture.image().read(count: 50, at: 440) == [UInt8](repeating: 0, count: 50))
    }

    @Test(
        arguments: [
            (Qcow2ImageTests.data + 512, "lies outside the file's"),
            (Qcow2ImageTests.data + 1024, "lies outside the file's"),
            (0x00FF_FFFF_FFFF_FE00, "lies outside the file's"), (1 << 62 | 0x00FF_FFFF, "lies outside the file's"),
            (1 << 62 | UInt64(Qcow2Fixture.dataOffset), "the deflate data is damaged"),
        ] as [(UInt64, String)])
    func `a cluster that cannot be read is an error, and others can be read`(entry: UInt64, part: String) throws {
        let image = try Qcow2Fixture(entries: [Self.data, entry], data: Self.cluster(0xFF)).image()
        #expect(try image.read(count: 512, at: 0) == Self.cluster(0xFF))
        #expect {
            try image.read(count: 512, at: 512)
        } throws: { error in
            (error as? BlockError)?.code == .damaged && "\(error)".contains(part)
                && "\(error)".hasPrefix("qcow2: guest offset 512")
        }
    }

    @Test func `a zero cluster in version 2 is an error`() throws {
        let image = try Qcow2Fixture(version: 2, entries: [1]).image()
        #expect {
            try image.read(count: 1, at: 0)
        } throws: { "\($0)".contains("is marked as zeros, which version 2 does not know") }
    }

    @Test(
        arguments: [
            (UInt64(Qcow2Fixture.l2Offset + 8), "not the start of a cluster"), (1 << 40, "outside the file's"),
        ] as [(UInt64, String)])
    func `an L2 table that cannot be there is refused on opening and on reading`(table: UInt64, part: String) throws {
        var fixture = Qcow2Fixture()
        fixture.set(table, at: Qcow2Fixture.l1Offset)
        let header = try #require(try fixture.header())
        // The low bits of an L1 entry are reserved; only whole sectors reach the check.
        let isRounded = table % 512 != 0
        if isRounded {
            try MappedCensus.checkL1(file: fixture.device, header: header)
        } else {
            #expect {
                try MappedCensus.checkL1(file: fixture.device, header: header)
            } throws: { "\($0)".contains(part) && "\($0)".contains("allowsDamage") }
            #expect { try fixture.image().read(count: 1, at: 0) } throws: { "\($0)".contains(part) }
        }
    }

    @Test func `an L1 table that is its own L2 table harms nobody`() throws {
        var fixture = Qcow2Fixture()
        fixture.set(UInt64(Qcow2Fixture.l1Offset), at: Qcow2Fixture.l1Offset)
        let image = try fixture.image()
        // The first entry of the table, taken for an L2 entry, points to the table itself.
        #expect(try image.read(count: 8, at: 0) == Array(fixture.bytes[Qcow2Fixture.l1Offset...].prefix(8)))
        #expect(try image.read(count: 63 * 512, at: 512) == [UInt8](repeating: 0, count: 63 * 512))
    }

    @Test func `a read that would wait for the file says so`() throws {
        let fixture = Qcow2Fixture(entries: [Self.data], data: Self.cluster(3))
        let device = fixture.device
        let header = try #require(try Qcow2Header(device: device))
        let image = Qcow2Image(file: device, header: header, cipher: nil)
        device.faults.nothingIsCached = true
        #expect(throws: BlockError.wouldBlock) { try image.read(count: 10, at: 0, .cachedOnly) }
        #expect(try image.read(count: 10, at: 0, .mayBlock) == [UInt8](repeating: 3, count: 10))
    }

    @Test func `tables are read once`() throws {
        let fixture = Qcow2Fixture(entries: [Self.data], data: Self.cluster(3))
        let device = fixture.device
        let header = try #require(try Qcow2Header(device: device))
        let image = Qcow2Image(file: device, header: header, cipher: nil)
        _ = try image.read(count: 512, at: 0)
        let before = device.readCount
        _ = try image.read(count: 512, at: 0)
        #expect(device.readCount == before + 1)
    }

    @Test func `the census counts what the tables say`() throws {
        let fixture = Qcow2Fixture(
            entries: [Self.data, 1, Self.data | 1, 1 << 62 | Self.data, 1 << 50], data: Self.cluster(1))
        let header = try #require(try fixture.header())
        let census = try MappedCensus(file: fixture.device, header: header)
        #expect(census.clusterCount == 64)
        #expect(census.allocatedCount == 4)
        #expect(census.compressedCount == 1)
        #expect(census.zeroCount == 2)
        #expect(census.faultCount == 1)
        #expect(census.firstFault == "the L2 entry at byte 2080 points to byte 1125899906842624, outside the file")
    }

    @Test func `a table that is used over and over is counted once`() throws {
        var fixture = Qcow2Fixture(size: 64 * 64 * 512, entries: [Self.data], data: Self.cluster(1))
        fixture.set(UInt32(64), at: 36)
        for index in 0..<64 { fixture.set(UInt64(Qcow2Fixture.l2Offset), at: Qcow2Fixture.l1Offset + 8 * index) }
        let header = try #require(try fixture.header())
        let device = fixture.device
        let census = try MappedCensus(file: device, header: header)
        #expect(census.allocatedCount == 1)
        #expect(census.faultCount == 63)
        #expect(device.readCount < 8)
    }
}
