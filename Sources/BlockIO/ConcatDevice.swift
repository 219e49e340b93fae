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
        for part in parts[index(of: range.offset)...].prefix(while: { $0.start < range.end }) {
            let first = max(range.offset, part.start)
            let inside = ByteRange(offset: first - part.start, length: min(range.end, part.end) - first)
            if let inside { part.device.prefetch(inside, budget) }
        }
    }
}
