// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import DiskStack

struct LayerTargetTests {
    /// Of a layer: data of its own, zeros of its own, what is below, and what nobody has.
    private static let extents = [
        Extent(offset: 0, length: 1000, kind: .data), Extent(offset: 1000, length: 3000, kind: .zero),
        Extent(offset: 4000, length: 2000, kind: .data, depth: 2),
        Extent(offset: 6000, length: 1000, kind: .zero, depth: 3),
        Extent(offset: 7000, length: 1000, kind: .unallocated), Extent(offset: 8000, length: 192, kind: .storedZeros),
    ]

    private static func layer() -> MemoryDevice { MemoryDevice([UInt8](repeating: 7, count: 8192), extents: extents) }

    private static func image() -> MemoryDevice {
        MemoryDevice([UInt8](repeating: 0xA5, count: 8192), isWritable: true)
    }

    private func range(_ offset: UInt64, _ length: UInt64) throws -> ByteRange {
        try #require(ByteRange(offset: offset, length: length))
    }

    @Test
    func `what a layer stores is written, its zeros are made, and the rest is left alone`() throws {
        let image = Self.image()
        let target = LayerTarget(of: Self.layer(), in: image)
        var bytes = [UInt8](repeating: 7, count: 8192)
        try bytes.withMutableBytes { try target.write(&$0, at: 0, []) }
        var expected = [UInt8](repeating: 0xA5, count: 8192)
        expected.replaceSubrange(0..<1000, with: repeatElement(7, count: 1000))
        for zeros in [1000..<4000, 8000..<8192] {
            expected.replaceSubrange(zeros, with: repeatElement(0, count: zeros.count))
        }
        #expect(image.bytes == expected)
    }

    @Test
    func `zeros are made in runs as long as they are, of the layer's own alone`() throws {
        let image = Self.image()
        try LayerTarget(of: Self.layer(), in: image).addZeros()
        #expect(try image.calls == [.zero(range(1000, 3000), []), .zero(range(8000, 192), [])])
    }

    @Test
    func `zeros of a copy go where the layer stores anything`() throws {
        let image = Self.image()
        try LayerTarget(of: Self.layer(), in: image).zero(range(500, 5000), [])
        #expect(try image.calls == [.zero(range(500, 500), []), .zero(range(1000, 3000), [])])
    }

    @Test
    func `where a layer can tell nothing, what stands for it is written, in steps of 512 bytes`() throws {
        let layer = Self.layer()
        layer.faults.unreadableByte = 4000
        let image = Self.image()
        var bytes = [UInt8](repeating: 0, count: 3000)
        try bytes.withMutableBytes { try LayerTarget(of: layer, in: image).write(&$0, at: 3800, []) }
        #expect(try image.calls == [.zero(range(3800, 200), []), .write(offset: 4000, count: 96)])
    }
}
