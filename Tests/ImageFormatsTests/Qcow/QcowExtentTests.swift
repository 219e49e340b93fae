// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

@Suite struct QcowExtentTests {
    private static let data = UInt64(QcowFixture.dataOffset)
    private static func clusters(_ count: Int) -> [UInt8] { [UInt8](repeating: 7, count: count * 512) }

    private static let stored = QcowFixture(
        size: 3 * 512, entries: (0..<3).map { data + $0 * 512 }, data: clusters(3))
    private static let hole = Extent(offset: data + 512 + 10, length: 600, kind: .unallocated, depth: 1)

    @Test func `a hole under stored clusters is zeros that are stored`() throws {
        let file = MemoryDevice(Self.stored.bytes, extents: [Self.hole])
        #expect(
            try Self.stored.image(file: file).extents() == [
                Extent(offset: 0, length: 522, kind: .data), Extent(offset: 522, length: 600, kind: .storedZeros),
                Extent(offset: 1122, length: 414, kind: .data),
            ])
    }

    @Test func `a hole under encrypted clusters is data`() throws {
        var fixture = Self.stored
        fixture.set(UInt32(1), at: 36)
        fixture.bytes.replaceSubrange(36..<40, with: [0, 0, 0, 1])
        let file = MemoryDevice(fixture.bytes, extents: [Self.hole])
        #expect(
            try fixture.image(file: file, cipher: InvertingCipher()).extents() == [
                Extent(offset: 0, length: 1536, kind: .data)
            ]
        )
    }

    @Test func `the missing end of the last cluster is zeros`() throws {
        var fixture = Self.stored
        fixture.bytes.removeLast(512 + 100)
        #expect(
            try fixture.image().extents() == [
                Extent(offset: 0, length: 924, kind: .data), Extent(offset: 924, length: 100, kind: .storedZeros),
                Extent(offset: 1024, length: 512, kind: .data),
            ])
    }

    @Test func `each layer counts one more, and zeros beyond its end are its own`() throws {
        let below = try QcowFixture(size: 2 * 512, entries: [Self.data, 0], data: Self.clusters(1)).image()
        let image = try QcowFixture(size: 4 * 512, entries: [0, 0, 0, Self.data], data: Self.clusters(1)).image(
            backing: below)
        #expect(
            try image.extents() == [
                Extent(offset: 0, length: 512, kind: .data, depth: 2),
                Extent(offset: 512, length: 512, kind: .unallocated, depth: 0),
                Extent(offset: 1024, length: 512, kind: .unallocated, depth: 2),
                Extent(offset: 1536, length: 512, kind: .data, depth: 1),
            ])
    }

    @Test func `one answer goes over several tables`() throws {
        var fixture = QcowFixture(size: UInt64(3 * QcowFixture.coverage))
        fixture.set(UInt64(QcowFixture.l2Offset), at: QcowFixture.l1Offset + 16)
        let size = UInt64(3 * QcowFixture.coverage)
        #expect(try fixture.image().extents() == [Extent(offset: 0, length: size, kind: .unallocated)])
    }
}
