// SPDX-License-Identifier: Apache-2.0

/// A device that others write to, for those who only read it.
public final class ReadOnlyView: ReadOnlyDevice {
    private let below: any BlockDevice

    /// Refuses to change `below`.
    public init(_ below: any BlockDevice) { self.below = below }

    /// Of the device below.
    public var size: UInt64 { below.size }
    /// Of the device below.
    public var alignment: Int { below.alignment }
    /// Of the device below.
    public var depth: Int { below.depth }

    /// One read of the device below.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try below.read(into: &buffer, at: offset, mode)
    }

    /// As the device below has it.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        try below.extent(at: offset, limit: limit, mode)
    }

    /// Of the device below.
    public func prefetch(_ range: ByteRange, _ budget: Budget) { below.prefetch(range, budget) }
}
