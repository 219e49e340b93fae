// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

@Suite struct QcowBackingTests {
    private static let data = UInt64(QcowFixture.dataOffset)
    private static func cluster(_ byte: UInt8) -> [UInt8] { QcowFixture.cluster(byte) }

    /// An image of three clusters, the second of which is stored.
    private static let overlay = QcowFixture(size: 3 * 512, entries: [0, data], data: cluster(0xAA))

    @Test(arguments: [0, 1, 300, 512, 1000, 1024, 1300, 1536, 5000])
    func `what is not stored is that of the backing disk, and zeros where it does not reach`(count: Int) throws {
        let below = (0..<count).map { UInt8(truncatingIfNeeded: $0 % 251) }
        let image = try Self.overlay.image(backing: MemoryDevice(below))
        var expected = Array((below + [UInt8](repeating: 0, count: 1536)).prefix(1536))
        expected.replaceSubrange(512..<1024, with: Self.cluster(0xAA))
        for offset in [0, 1, 299, 511, 1023, 1025, 1535] {
            let range = offset..<1536
            #expect(try image.read(count: range.count, at: UInt64(offset)) == Array(expected[range]))
        }
    }

    @Test func `extents are those of the backing disk, as far as it reaches`() throws {
        let lower = try QcowFixture(size: 1300 + 512, entries: [Self.data, 0, 0], data: Self.cluster(1)).image()
        #expect(lower.size == 1536)
        let image = try QcowFixture(size: 8 * 512, entries: [0, 0, 0, 0, Self.data, 0], data: Self.cluster(2)).image(
            backing: lower)
        #expect(try image.extent(at: 0, limit: .max) == Extent(offset: 0, length: 512, kind: .data, depth: 2))
        #expect(try image.extent(at: 10, limit: 20) == Extent(offset: 10, length: 20, kind: .data, depth: 2))
        #expect(try image.extent(at: 512, limit: .max) == Extent(offset: 512, length: 1024, kind: .unallocated))
        #expect(
            try image.extent(at: 1536, limit: .max) == Extent(offset: 1536, length: 512, kind: .unallocated, depth: 2))
        #expect(try image.extent(at: 2048, limit: .max) == Extent(offset: 2048, length: 512, kind: .data))
        let raw = try Self.overlay.image(backing: MemoryDevice([UInt8](repeating: 1, count: 1300)))
        #expect(try raw.extent(at: 1024, limit: .max) == Extent(offset: 1024, length: 276, kind: .data, depth: 2))
        #expect(
            try raw.extent(at: 1300, limit: .max) == Extent(offset: 1300, length: 236, kind: .unallocated, depth: 2))
    }

    @Test func `a backing disk that wants whole sectors is asked for them`() throws {
        let below = (0..<1024).map { UInt8(truncatingIfNeeded: $0 % 251) }
        let image = try Self.overlay.image(backing: MemoryDevice(below, alignment: 512))
        #expect(image.alignment == 1)
        #expect(try image.read(count: 100, at: 7) == Array(below[7..<107]))
    }

    @Test func `a hole over missing L2 tables is one read of the backing disk`() throws {
        let fixture = QcowFixture(size: UInt64(40 * QcowFixture.coverage))
        let below = MemoryDevice([UInt8](repeating: 9, count: 40 * QcowFixture.coverage))
        let image = try fixture.image(backing: below)
        let count = 39 * QcowFixture.coverage
        #expect(try image.read(count: count, at: UInt64(QcowFixture.coverage)).allSatisfy { $0 == 9 })
        #expect(below.readCount == 1)
    }

    @Test func `an error and the wish not to wait come from below`() throws {
        let below = MemoryDevice(Self.cluster(1))
        let image = try Self.overlay.image(backing: below)
        below.faults.nothingIsCached = true
        #expect(throws: BlockError.wouldBlock) { try image.read(count: 1, at: 0, .cachedOnly) }
        below.faults.unreadableByte = 5
        #expect { try image.read(count: 10, at: 0) } throws: { "\($0)" == "memory: byte 5 cannot be read" }
        #expect(try image.read(count: 512, at: 512) == Self.cluster(0xAA))
    }
}
