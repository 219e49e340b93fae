// SPDX-License-Identifier: Apache-2.0

/// Devices one behind the other, as one device: the segments of a volume.
public final class ConcatDevice: BlockDevice {
    private struct Part {
        let start: UInt64
        let device: any BlockDevice
        var end: UInt64 { start + device.size }
    }

    /// The sum of the parts, in bytes.
    public let size: UInt64
    /// Any offset and length is accepted.
    public let alignment = 1
    /// Of the part that likes most.
    public let depth: Int
    /// Are all parts?
    public let isWritable: Bool
    private let parts: [Part]

    /// - Returns: nil when the sum of the sizes does not fit 64 bits.
    public init?(_ devices: [any BlockDevice]) {
        var parts: [Part] = []
        var end: UInt64 = 0
        for device in devices where device.size > 0 {
            guard let range = ByteRange(offset: end, length: device.size) else { return nil }
            parts.append(Part(start: end, device: AlignedDevice.lifting(device)))
            end = range.end
        }
        self.parts = parts
        self.depth = parts.map(\.device.depth).max() ?? 1
        self.isWritable = !parts.isEmpty && parts.allSatisfy(\.device.isWritable)
        self.size = end
    }

    /// The number of the part with a byte; of none for a byte behind the end. A volume may have very many segments.
    private func index(of offset: UInt64) -> Int {
        var range = parts.startIndex..<parts.endIndex
        while !range.isEmpty {
            let middle = range.lowerBound + range.count / 2
            if parts[middle].end <= offset {
                range = (middle + 1)..<range.upperBound
            } else {
                range = range.lowerBound..<middle
            }
        }
        return range.lowerBound
    }

    /// One read of each part that the range touches.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "segments")
        let end = offset + UInt64(buffer.byteCount)
        for part in parts[index(of: offset)...].prefix(while: { $0.start < end }) {
            let first = max(offset, part.start)
            let range = Int(first - offset)..<Int(min(end, part.end) - offset)
            try mode.look()
            try buffer.withSlice(range) { (slice) throws(BlockError) in
                try part.device.read(into: &slice, at: first - part.start, mode)
            }
        }
    }

    /// What the part says; an extent does not reach into the next one.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard limit > 0, offset < size else { throw .outOfRange("segments: there is no byte \(offset)") }
        let part = parts[index(of: offset)]
        let inside = offset - part.start
        let extent = try part.device.extent(at: inside, limit: min(limit, part.device.size - inside), mode)
        return extent.moved(to: offset)
    }

    /// Of each part that the range touches.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {
        forEachPart(of: range) { (device, inside) in device.prefetch(inside, budget) }
    }

    /// One write of each part that the range touches.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(bytes.byteCount, at: offset, layer: "segments")
        guard let range = ByteRange(offset: offset, length: UInt64(bytes.byteCount)) else { return }
        var done = 0
        for part in parts[index(of: offset)...].prefix(while: { $0.start < range.end }) {
            let first = max(offset, part.start)
            let count = Int(min(range.end, part.end) - first)
            try bytes.withSlice(done..<(done + count)) { (slice) throws(BlockError) in
                try part.device.write(&slice, at: first - part.start, options)
            }
            done += count
        }
    }

    /// In each part that the range touches.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "segments")
        try forEachPart(of: range) { (device, inside) throws(BlockError) in try device.zero(inside, options) }
    }

    /// In each part that the range touches.
    public func discard(_ range: ByteRange) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "segments")
        try forEachPart(of: range) { (device, inside) throws(BlockError) in try device.discard(inside) }
    }

    /// All parts, also when one of them fails.
    public func flush() throws(BlockError) { try flushAll(parts.map(\.device)) }

    /// Calls `body` with each part that a range touches, and what of it.
    private func forEachPart<Failure: Error>(
        of range: ByteRange, _ body: (any BlockDevice, ByteRange) throws(Failure) -> Void
    ) throws(Failure) {
        for part in parts[index(of: range.offset)...].prefix(while: { $0.start < range.end }) {
            let first = max(range.offset, part.start)
            let inside = ByteRange(offset: first - part.start, length: min(range.end, part.end) - first)
            if let inside { try body(part.device, inside) }
        }
    }
}

/// Flushes all of some devices, also when one of them fails, and then throws what the first failure was.
func flushAll(_ devices: [any BlockDevice]) throws(BlockError) {
    var failure: BlockError?
    for device in devices {
        do throws(BlockError) { try device.flush() } catch { failure = failure ?? error }
    }
    if let failure { throw failure }
}
