// SPDX-License-Identifier: Apache-2.0

/// Takes any offset and length and asks the device below in whole units of its alignment.
///
/// The aligned middle of a request goes straight into the caller's buffer; a ragged head or tail goes through one unit
/// of scratch memory.
public final class AlignedDevice: BlockDevice {
    private let below: any BlockDevice
    private let unit: UInt64
    /// The length of the device below, in bytes.
    public var size: UInt64 { below.size }
    /// Any offset and length is accepted.
    public let alignment = 1

    /// `device` itself when it takes any request, else a device over it that does.
    public static func lifting(_ device: any BlockDevice) -> any BlockDevice {
        device.alignment > 1 ? AlignedDevice(device) : device
    }

    /// Lifts the restriction of `below`.
    public init(_ below: any BlockDevice) {
        self.below = below
        self.unit = UInt64(below.alignment)
    }

    /// One request below for the aligned middle, and one for each ragged end.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "request")
        let end = offset + UInt64(buffer.byteCount)
        var position = offset
        while position < end {
            let start = Int(position - offset)
            let whole = (end - position) / unit * unit
            if position % unit == 0, whole > 0 {
                try buffer.withSlice(start..<(start + Int(whole))) { (middle) throws(BlockError) in
                    try below.read(into: &middle, at: position, mode)
                }
                position += whole
            } else {
                let unitStart = position - position % unit
                let partEnd = min(end, unitStart + unit)
                let sector = try below.read(count: Int(unit), at: unitStart, mode)
                let part = Int(position - unitStart)..<Int(partEnd - unitStart)
                buffer.withSlice(start..<(start + part.count)) { target in
                    sector.withBytes { target.copy(from: $0.extracting(part)) }
                }
                position = partEnd
            }
        }
    }

    /// As the device below has it.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        try below.extent(at: offset, limit: limit, mode)
    }

    /// Of the device below, in whole units.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {
        let start = range.offset / unit * unit
        let end = min(size, range.end + (unit - range.end % unit) % unit)
        if let whole = ByteRange(offset: start, length: end - start) { below.prefetch(whole, budget) }
    }
}
