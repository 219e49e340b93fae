// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

@Suite struct QcowImageTests {
    private static let data = UInt64(QcowFixture.dataOffset)
    private static func cluster(_ byte: UInt8) -> [UInt8] { QcowFixture.cluster(byte) }

    @Test func `each kind of cluster reads as it should, at any offset`() throws {
        let packed = QcowFixture.compressed(QcowFixture.dataOffset + 1024 + 3, QcowFixture.packed.count)
        let image = try QcowFixture(
            entries: [Self.data + 512, 0, Self.data, packed, packed],
            data: Self.cluster(0xAA) + Self.cluster(0xBB) + [1, 2, 3] + QcowFixture.packed
        ).image()
        let expected =
            Self.cluster(0xBB) + Self.cluster(0) + Self.cluster(0xAA) + Self.cluster(0xCC) + Self.cluster(0xCC)
        #expect(image.alignment == 1)
        #expect(try image.read(count: expected.count, at: 0) == expected)
        for offset in [1, 300, 511, 512, 1000, 1499] {
            #expect(try image.read(count: 1030, at: UInt64(offset)) == Array(expected[offset..<(offset + 1030)]))
        }
    }

    @Test func `sectors are decrypted by guest number, and compressed clusters and what is not stored are not`() throws
    {
        let packed = QcowFixture.compressed(QcowFixture.dataOffset + 1536, QcowFixture.packed.count)
        let fixture = QcowFixture(
            method: 1, entries: [Self.data + 1024, 0, Self.data, Self.data + 512, packed],
            data: Self.cluster(0x10) + Self.cluster(0x20) + Self.cluster(0x30) + QcowFixture.packed)
        let backing = MemoryDevice([UInt8](repeating: 0x77, count: 64 * 512))
        let image = try fixture.image(cipher: NumberCipher(), backing: backing)
        #expect(image.alignment == 512)
        #expect(
            try image.read(count: 5 * 512, at: 0)
                == Self.cluster(0x30) + Self.cluster(0x77) + Self.cluster(0x12) + Self.cluster(0x23)
                + Self.cluster(0xCC))
        #expect(try image.read(count: 512, at: 3 * 512) == Self.cluster(0x23))
    }

    @Test func `clusters that lie together are one read`() throws {
        let entries = (0..<64).map { Self.data + UInt64($0 < 40 ? $0 : $0 + 1) * 512 }
        let device = QcowFixture(entries: entries, data: [UInt8](repeating: 5, count: 65 * 512)).device
        let image = try QcowFixture().image(file: device)
        _ = try image.read(count: 1, at: 0)
        let before = device.readCount
        _ = try image.read(count: 64 * 512, at: 0)
        #expect(device.readCount == before + 2)
    }

    @Test func `clusters of 64 KiB and tables of 8192 entries work alike`() throws {
        var fixture = QcowFixture(size: 1 << 30)
        fixture.bytes[32] = 16
        fixture.bytes[33] = 13
        // At an odd place, as nothing forbids it.
        let table = 1031
        fixture.bytes += [UInt8](repeating: 0, count: table + 65536 + 65536 + 4000 - fixture.bytes.count)
        fixture.set(UInt64(table), at: QcowFixture.l1Offset)
        fixture.set(UInt64(67584), at: table + 5000 * 8)
        fixture.set(UInt64(67584 + 65536), at: table + 5001 * 8)
        for index in 67584..<fixture.bytes.count { fixture.bytes[index] = UInt8(truncatingIfNeeded: index / 512) }
        let image = try fixture.image()
        let stored = Array(fixture.bytes[67584...])
        let start = UInt64(5000) << 16
        #expect(
            try image.read(count: 2 << 16, at: start) == stored + [UInt8](repeating: 0, count: 2 << 16 - stored.count))
        #expect(try image.read(count: 5, at: start + 70) == Array(stored[70..<75]))
        let data = Extent(offset: start + 9, length: UInt64(stored.count - 9), kind: .data)
        #expect(try image.extent(at: start + 9, limit: .max) == data)
        let end = data.offset + data.length
        #expect(
            try image.extent(at: end, limit: .max)
                == Extent(offset: end, length: start + 2 << 16 - end, kind: .storedZeros))
    }

    @Test func `extents tell data, compressed and nothing apart and join neighbours`() throws {
        let packed = QcowFixture.compressed(QcowFixture.dataOffset, 8)
        let image = try QcowFixture(
            entries: [Self.data + 512, Self.data, 0, 0, packed, packed], data: Self.cluster(1) + Self.cluster(2)
        ).image()
        #expect(try image.extent(at: 0, limit: .max) == Extent(offset: 0, length: 1024, kind: .data))
        #expect(try image.extent(at: 100, limit: 50) == Extent(offset: 100, length: 50, kind: .data))
        #expect(try image.extent(at: 1024, limit: .max) == Extent(offset: 1024, length: 1024, kind: .unallocated))
        #expect(try image.extent(at: 2049, limit: .max) == Extent(offset: 2049, length: 1023, kind: .compressed))
        #expect(try image.extent(at: 3072, limit: .max).kind == .unallocated)
        #expect(throws: BlockError.self) { try image.extent(at: 64 * 512, limit: 1) }
    }

    @Test func `a hole goes on over missing L2 tables`() throws {
        var fixture = QcowFixture(size: 32768 * 60, entries: [Self.data], data: Self.cluster(1))
        fixture.set(UInt64(QcowFixture.l2Offset), at: QcowFixture.l1Offset + 59 * 8)
        let image = try fixture.image()
        let hole = try image.extent(at: 32768 + 5, limit: .max)
        #expect(hole == Extent(offset: 32773, length: 58 * 32768 - 5, kind: .unallocated))
        #expect(try image.extent(at: hole.offset + hole.length, limit: .max).kind == .data)
        #expect(try image.read(count: 59 * 32768, at: 32768).count { $0 == 1 } == 512)
    }

    @Test func `the end of the last cluster of the file may be missing and reads as zeros`() throws {
        var fixture = QcowFixture(entries: [Self.data, Self.data + 512], data: Self.cluster(6) + Self.cluster(7))
        fixture.bytes.removeLast(100)
        let expected = Self.cluster(6) + [UInt8](repeating: 7, count: 412) + [UInt8](repeating: 0, count: 100)
        #expect(try fixture.image().read(count: 1024, at: 0) == expected)
        #expect(try fixture.image().read(count: 50, at: 512 + 440) == [UInt8](repeating: 0, count: 50))
    }

    @Test(
        arguments: [
            (QcowImageTests.data + 512, "512: the cluster at byte 2048 lies outside the file's 2048 bytes"),
            (QcowImageTests.data + 1024, "lies outside the file's"),
            (0x7FFF_FFFF_FFFF_FE00, "the cluster at byte 9223372036854775296 lies outside the file's"),
            (QcowImageTests.data + 1, "the L2 entry points to byte 1537, which is not a multiple of 512"),
            (.max, "the compressed cluster at byte 18014398509481983+511 lies outside the file's"),
            (QcowFixture.compressed(2047, 2), "the compressed cluster at byte 2047+2 lies outside the file's"),
            (
                QcowFixture.compressed(1536, 0),
                "the L2 entry says that the compressed cluster at byte 1536 has 0 bytes"
            ),
            (QcowFixture.compressed(1536, 100), "at byte 1536+100: the deflate data is damaged"),
        ] as [(UInt64, String)])
    func `a cluster that cannot be read is an error, and others can be read`(entry: UInt64, part: String) throws {
        let image = try QcowFixture(entries: [Self.data, entry], data: Self.cluster(0xFF)).image()
        #expect(try image.read(count: 512, at: 0) == Self.cluster(0xFF))
        #expect {
            try image.read(count: 512, at: 512)
        } throws: { error in
            (error as? BlockError)?.code == .damaged && "\(error)".contains(part)
                && "\(error)".hasPrefix("qcow: guest offset 512")
        }
    }

    @Test func `a compressed cluster must be full, and may be followed by other bytes`() throws {
        let packed = QcowFixture.packedTooShort + QcowFixture.packed
        let image = try QcowFixture(
            entries: [QcowFixture.compressed(1536, 8), QcowFixture.compressed(1544, 9)], data: packed + [0xFF]
        ).image()
        #expect {
            try image.read(count: 512, at: 0)
        } throws: {
            "\($0)".hasSuffix("the compressed cluster at byte 1536+8: the deflate data ends before the cluster is full")
        }
        #expect(try image.read(count: 512, at: 512) == Self.cluster(0xCC))
    }

    @Test func `an L2 table that cannot be there is refused on opening and on reading`() throws {
        for table: UInt64 in [1025, 1 << 40, .max] {
            var fixture = QcowFixture()
            fixture.set(table, at: QcowFixture.l1Offset)
            let header = try #require(try fixture.header())
            #expect {
                try MappedCensus.checkL1(file: fixture.device, header: header)
            } throws: { error in
                "\(error)".hasPrefix(
                    "qcow L1 table: entry 0 at byte 512: found an L2 table at byte \(table), outside the file's")
                    && "\(error)".contains("allowsDamage") && (error as? FormatError)?.code == .damaged
            }
            #expect {
                try fixture.image().read(count: 1, at: 0)
            } throws: { error in
                "\(error)".hasPrefix(
                    "qcow: guest offset 0: L1 entry 0 points to an L2 table at byte \(table), outside the file's")
            }
        }
    }

    @Test func `an L1 table that is its own L2 table harms nobody`() throws {
        var fixture = QcowFixture()
        fixture.set(UInt64(QcowFixture.l1Offset), at: QcowFixture.l1Offset)
        let image = try fixture.image()
        #expect(try image.read(count: 8, at: 0) == Array(fixture.bytes[QcowFixture.l1Offset...].prefix(8)))
        #expect(try image.read(count: 63 * 512, at: 512) == [UInt8](repeating: 0, count: 63 * 512))
    }

    @Test func `a read that would wait says so, and what was unpacked once is there`() throws {
        let fixture = QcowFixture(
            entries: [Self.data, QcowFixture.compressed(2048, 8)], data: Self.cluster(3) + QcowFixture.packed)
        let device = fixture.device
        let image = try fixture.image(file: device)
        device.faults.nothingIsCached = true
        #expect(throws: BlockError.wouldBlock) { try image.read(count: 10, at: 0, .cachedOnly) }
        #expect(try image.read(count: 10, at: 0, .mayBlock) == [UInt8](repeating: 3, count: 10))
        device.faults.nothingIsCached = false
        #expect(throws: BlockError.wouldBlock) { try image.read(count: 10, at: 520, .cachedOnly) }
        #expect(try image.read(count: 10, at: 520) == [UInt8](repeating: 0xCC, count: 10))
        device.faults.nothingIsCached = true
        #expect(try image.read(count: 10, at: 600, .cachedOnly) == [UInt8](repeating: 0xCC, count: 10))
    }

    @Test func `tables are read once`() throws {
        let fixture = QcowFixture(entries: [Self.data], data: Self.cluster(3))
        let device = fixture.device
        let image = try fixture.image(file: device)
        _ = try image.read(count: 512, at: 0)
        let before = device.readCount
        _ = try image.read(count: 512, at: 0)
        #expect(device.readCount == before + 1)
    }

    @Test func `what lies outside the disk or between sectors is refused`() throws {
        let image = try QcowFixture(size: 1000, method: 1).image(cipher: NumberCipher())
        #expect(image.size == 512)
        for (offset, count) in [(0, 1024), (512, 512), (1, 511), (0, 100)] as [(UInt64, Int)] {
            #expect {
                try image.read(count: count, at: offset)
            } throws: { ($0 as? BlockError)?.code == .outOfRange }
        }
        #expect(try image.read(count: 0, at: 512).isEmpty)
    }
}
