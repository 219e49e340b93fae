// SPDX-License-Identifier: Apache-2.0

/// A part of another device, as a device: a segment, a header inside an image.
public final class WindowDevice: BlockDevice {
    /// The length of the part, in bytes.
    public let size: UInt64
    /// The device below decides; the part starts at a multiple of it.
    public var alignment: Int { below.alignment }
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
    public func extent(at offset: UInt64, limit: UInt64) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("window: there is no byte \(offset)") }
        let extent = try below.extent(at: start + offset, limit: min(limit, size - offset))
        return Extent(offset: offset, length: extent.length, kind: extent.kind)
    }
}
