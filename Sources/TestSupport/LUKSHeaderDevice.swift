// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A header with as many zeros behind it as it asks for: a large volume that needs little memory.
public final class LUKSHeaderDevice: ReadOnlyDevice {
    /// As a file.
    public let depth = 8
    /// What the device starts with.
    public let bytes: [UInt8]
    /// As given to `init`.
    public let size: UInt64
    /// Any request is accepted.
    public let alignment = 1

    /// - Parameter size: in bytes; the end of `bytes` is cut off if it is smaller.
    public init(_ bytes: [UInt8], size: UInt64) {
        self.bytes = bytes
        self.size = size
    }

    /// Copies from `bytes`; behind them are zeros.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "header")
        buffer.clear()
        guard offset < bytes.count else { return }
        let range = Int(offset)..<min(Int(offset) + buffer.byteCount, bytes.count)
        bytes.withBytes { buffer.copy(from: $0.extracting(range)) }
    }

    /// All of it is data.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        try checkBounds(1, at: offset, layer: "header")
        return Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }

    /// Nothing: all of it is in memory.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {}
}
