// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Synchronization

/// A disk of any size that stores nothing: it reads as zeros, and remembers what it was asked to do.
final class HugeDevice: BlockDevice {
    /// What has been asked of it, but for reads.
    enum Call: Equatable, Sendable {
        case write(ByteRange)
        case zero(ByteRange, ZeroOptions)
        case discard(ByteRange)
        case prefetch(ByteRange)
        case flush
    }

    let size: UInt64
    let isWritable: Bool
    let alignment: Int
    let depth = 8
    /// Extents alternate between data and zeros at multiples of this many bytes.
    private let period: UInt64
    private let hasFastZeros: Bool
    private let log = Mutex<[Call]>([])

    init(
        size: UInt64, isWritable: Bool = false, alignment: Int = 1, period: UInt64 = 1 << 39, hasFastZeros: Bool = true
    ) {
        (self.size, self.isWritable, self.alignment, self.period) = (size, isWritable, alignment, period)
        self.hasFastZeros = hasFastZeros
    }

    /// In the order in which they came.
    var calls: [Call] { log.withLock { $0 } }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "huge")
        buffer.clear()
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("huge: there is no byte \(offset)") }
        let index = offset / period
        let length = min(limit, size - offset, period - offset % period)
        return Extent(offset: offset, length: length, kind: index.isMultiple(of: 2) ? .unallocated : .data)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) { log.withLock { $0.append(.prefetch(range)) } }

    func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        guard let range = ByteRange(offset: offset, length: UInt64(bytes.byteCount)) else { throw .readOnly }
        try record(range, .write(range))
        if options.contains(.durable) { try flush() }
    }

    func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        guard hasFastZeros || !options.contains(.fastOnly) else { throw .notSupported }
        try record(range, .zero(range, options))
    }

    func discard(_ range: ByteRange) throws(BlockError) { try record(range, .discard(range)) }

    func flush() throws(BlockError) { log.withLock { $0.append(.flush) } }

    private func record(_ range: ByteRange, _ call: Call) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "huge")
        log.withLock { $0.append(call) }
    }
}
