// SPDX-License-Identifier: Apache-2.0

/// A part of another device, as a device: a segment, a header inside an image.
public final class WindowDevice: BlockDevice {
    /// The length of the part, in bytes.
    public let size: UInt64
    /// The device below decides; the part starts at a multiple of it.
    public var alignment: Int { below.alignment }
    /// Of the device below.
    public var depth: Int { below.depth }
    private let below: any BlockDevice
    private let start: UInt64

    /// - Parameter range: a part of `below`, which starts at a multiple of its alignment.
    public init(_ below: any BlockDevice, _ range: ByteRange) {
        precondition(range.end <= below.size && range.offset % UInt64(below.alignment) == 0)
        self.below = below
        self.start = range.offset
        self.size = range.length
    }

    /// One read of the device below.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "window")
        try below.read(into: &buffer, at: start + offset, mode)
    }

    /// What the device below says.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("window: there is no byte \(offset)") }
        let extent = try below.extent(at: start + offset, limit: min(limit, size - offset), mode)
        return extent.moved(to: offset)
    }

    /// As the device below.
    public var isWritable: Bool { below.isWritable }

    /// Of the device below.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {
        if let inside = try? place(range) { below.prefetch(inside, budget) }
    }

    /// One write to the device below.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        try checkBounds(bytes.byteCount, at: offset, layer: "window")
        try below.write(&bytes, at: start + offset, options)
    }

    /// Of the device below.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        try below.zero(place(range), options)
    }

    /// Of the device below.
    public func discard(_ range: ByteRange) throws(BlockError) { try below.discard(place(range)) }

    /// All of the device below.
    public func flush() throws(BlockError) { try below.flush() }

    private func place(_ range: ByteRange) throws(BlockError) -> ByteRange {
        try checkBounds(range, layer: "window")
        guard let place = ByteRange(offset: start + range.offset, length: range.length) else {
            throw .outOfRange("window: there is no byte \(range.end)")
        }
        return place
    }
}
