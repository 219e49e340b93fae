// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Synchronization

/// A disk of any size whose sectors are made up when they are read, and which counts what is asked of it.
final class ContentCheckDevice: ReadOnlyDevice {
    let depth = 8
    /// What sectors hold that are not given one by one.
    enum Background: Sendable {
        case zeros
        /// What a wrong key gives; the number chooses one of many.
        case noise(UInt64)
        /// The same noise in every sector, as clusters give that were allocated and never written.
        case neverWritten(UInt64)
    }

    let size: UInt64
    let alignment = 512
    private let background: Background
    private let sectors: [UInt64: [UInt8]]
    private let kind: @Sendable (UInt64) -> Extent.Kind
    private let extentLength: UInt64
    private let isReadable: @Sendable (UInt64) -> Bool
    private let counters = Mutex((extents: 0, bytes: 0))

    /// - Parameters:
    ///   - size: in bytes.
    ///   - sectors: contents of sectors of 512 bytes, by number.
    ///   - extentLength: in bytes; the map is cut into pieces of this length.
    ///   - kind: what the piece is that starts with the sector of this number.
    ///   - isReadable: can the sector with this number be read?
    init(
        size: UInt64, _ background: Background, sectors: [UInt64: [UInt8]] = [:], extentLength: UInt64 = 32 << 20,
        kind: @escaping @Sendable (UInt64) -> Extent.Kind = { _ in .data },
        isReadable: @escaping @Sendable (UInt64) -> Bool = { _ in true }
    ) {
        self.size = size
        self.background = background
        self.sectors = sectors
        self.extentLength = extentLength
        self.kind = kind
        self.isReadable = isReadable
    }

    /// How often ``extent(at:limit:)`` was called.
    var extentCalls: Int { counters.withLock { $0.extents } }
    /// How many bytes were read.
    var bytesRead: Int { counters.withLock { $0.bytes } }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "test")
        let count = buffer.byteCount
        counters.withLock { $0.bytes += count }
        for start in stride(from: 0, to: count, by: 512) {
            let sector = (offset + UInt64(start)) / 512
            guard isReadable(sector) else { throw .damaged("test: sector \(sector) cannot be read") }
            buffer.withSlice(start..<(start + 512)) { fill(&$0, sector) }
        }
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        counters.withLock { $0.extents += 1 }
        guard isReadable(offset / 512) else { throw .damaged("test: no map at \(offset)") }
        let start = offset / extentLength * extentLength
        let end = start + min(extentLength, size - start)
        return Extent(offset: offset, length: min(end - offset, limit), kind: kind(start / 512))
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) {}

    private func fill(_ target: inout MutableRawSpan, _ sector: UInt64) {
        if let bytes = sectors[sector] {
            bytes.withBytes { target.copy(from: $0) }
            return
        }
        switch background {
        case .zeros: target.clear()
        case .noise(let seed):
            var noise = SeededGenerator(seed: seed ^ sector.byteSwapped)
            for start in stride(from: 0, to: 512, by: 8) {
                target.storeBytes(of: noise.next(), toByteOffset: start, as: UInt64.self)
            }
        case .neverWritten(let seed):
            Self.decryptedZeros(sector, seed: seed).withBytes { target.copy(from: $0) }
        }
    }

    /// AES-CBC turns every block of zeros into the same noise, and the first one is mixed with the sector's number.
    static func decryptedZeros(_ sector: UInt64, seed: UInt64) -> [UInt8] {
        let block = SeededGenerator(seed: seed).bytes(16)
        let first = zip(block, sector.littleEndianBytes + [UInt8](repeating: 0, count: 8)).map { $0 ^ $1 }
        return first + (1..<32).flatMap { _ in block }
    }
}

extension SeededGenerator {
    /// A run of noise; always the same for the same seed.
    func bytes(_ count: Int) -> [UInt8] {
        var copy = self
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        while bytes.count < count {
            bytes += copy.next().littleEndianBytes
        }
        return Array(bytes.prefix(count))
    }
}

extension FixedWidthInteger {
    /// The bytes as most file systems store them.
    var littleEndianBytes: [UInt8] {
        stride(from: 0, to: Self.bitWidth, by: 8).map { UInt8(truncatingIfNeeded: self >> Self($0)) }
    }
}
