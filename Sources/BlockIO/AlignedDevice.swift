// SPDX-License-Identifier: Apache-2.0

/// Takes any offset and length and asks the device below in whole units of its alignment.
///
/// The aligned middle of a request goes straight into the caller's buffer, or out of it; a ragged head or tail goes through
/// one unit of scratch memory, which a write reads first.
public final class AlignedDevice: BlockDevice {
    private let below: any BlockDevice
    private let unit: UInt64
    /// Of units that somebody changes: what is read from one to be written again must not change meanwhile.
    private let changes = WatchedRanges()
    /// The length of the device below, in bytes.
    public var size: UInt64 { below.size }
    /// Any offset and length is accepted.
    public let alignment = 1
    /// Of the device below.
    public var depth: Int { below.depth }
    /// As the device below.
    public let isWritable: Bool

    /// `device` itself when it takes any request, else a device over it that does.
    public static func lifting(_ device: any BlockDevice) -> any BlockDevice {
        device.alignment > 1 ? AlignedDevice(device) : device
    }

    /// Lifts the restriction of `below`.
    public init(_ below: any BlockDevice) {
        self.below = below
        self.unit = UInt64(below.alignment)
        isWritable = below.isWritable
    }

    /// One request below for the aligned middle, and one for each ragged end; again when somebody changes a part of a unit
    /// meanwhile.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "request")
        guard isWritable else { return try readParts(into: &buffer, at: offset, mode) }
        guard let range = ByteRange(offset: offset, length: UInt64(buffer.byteCount)) else { return }
        try changes.read(units(range), mode) { () throws(BlockError) in
            try readParts(into: &buffer, at: offset, mode)
        }
    }

    private func readParts(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
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

    /// One write below for the aligned middle; each ragged end is read and written again as a unit.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        try checkBounds(bytes.byteCount, at: offset, layer: "request")
        guard let range = ByteRange(offset: offset, length: UInt64(bytes.byteCount)) else { return }
        changes.acquire(units(range))
        defer { changes.release(units(range)) }
        for part in parts(range) {
            let place = Int(part.offset - offset)..<Int(part.end - offset)
            try bytes.withSlice(place) { (slice) throws(BlockError) in
                if isWhole(part) {
                    try below.write(&slice, at: part.offset, options)
                } else {
                    try change(part, options) { $0.copy(from: slice.bytes) }
                }
            }
        }
    }

    /// In the device below for the aligned middle; each ragged end is read and written again as a unit.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        try checkBounds(range, layer: "request")
        changes.acquire(units(range))
        defer { changes.release(units(range)) }
        for part in parts(range) {
            if isWhole(part) {
                try below.zero(part, options)
            } else {
                try change(part, options.contains(.durable) ? .durable : []) { $0.clear() }
            }
        }
    }

    /// In the device below, of the whole units in the range.
    public func discard(_ range: ByteRange) throws(BlockError) {
        try checkBounds(range, layer: "request")
        changes.acquire(units(range))
        defer { changes.release(units(range)) }
        for part in parts(range) where isWhole(part) { try below.discard(part) }
    }

    /// Of the device below.
    public func flush() throws(BlockError) { try below.flush() }

    /// Changes a part of a unit.
    private func change(
        _ part: ByteRange, _ options: WriteOptions, _ body: (inout MutableRawSpan) -> Void
    ) throws(BlockError) {
        let start = part.offset - part.offset % unit
        var sector = try below.read(count: Int(unit), at: start)
        try sector.withMutableBytes { (sector) throws(BlockError) in
            sector.withSlice(Int(part.offset - start)..<Int(part.end - start)) { body(&$0) }
            try changes.disturb { () throws(BlockError) in try below.write(&sector, at: start, options) }
        }
    }

    /// The units that a range touches, which is within the device.
    private func units(_ range: ByteRange) -> Range<UInt64> {
        range.offset / unit..<range.end.units(of: unit)
    }

    private func isWhole(_ part: ByteRange) -> Bool { (part.offset | part.length) % unit == 0 }

    /// A range as its head, its middle of whole units, and its tail, each if there is one.
    private func parts(_ range: ByteRange) -> [ByteRange] {
        let first = min(range.end, range.offset.roundedUp(to: unit))
        let last = max(first, range.end / unit * unit)
        return [range.offset..<first, first..<last, last..<range.end].compactMap { part in
            part.isEmpty ? nil : ByteRange(offset: part.lowerBound, length: UInt64(part.count))
        }
    }
}
