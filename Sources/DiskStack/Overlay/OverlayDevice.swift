// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A disk that can be changed over one that stays as it is: what is written goes to an ``OverlayScratch``.
///
/// An ``OverlayMap`` says of each unit where it is. A unit that is written in part is copied first, once. What is made zero, or
/// given up, takes no space. Changes last as long as the device: to flush it costs nothing and promises no more.
///
/// Any number of threads may call it. Who changes units holds their range, so that what one thread copies no other changes
/// meanwhile; readers hold nothing. The map says that a unit is in the scratch file only once it is there.
final class OverlayDevice: BlockDevice {
    /// Of the disk below.
    var size: UInt64 { below.size }
    /// Any offset and length is accepted.
    let alignment = 1
    let isWritable = true
    /// Of the disk below.
    var depth: Int { below.depth }
    private let below: any BlockDevice
    private let scratch: OverlayScratch
    /// The same for parts of sectors.
    private let parts: AlignedDevice
    private let map: Locked<OverlayMap>
    private let unitSize: UInt64
    /// Of units, by number.
    private let changes = WatchedRanges()

    /// - Parameters:
    ///   - below: takes requests of any offset and length; is only read.
    ///   - scratch: of the same size.
    /// - Returns: nil when the disk is larger than ``OverlayMap/maximumSize``.
    init?(_ below: any BlockDevice, scratch: OverlayScratch) {
        guard let map = OverlayMap(size: below.size) else { return nil }
        unitSize = map.unitSize
        self.map = Locked(map)
        self.below = below
        self.scratch = scratch
        parts = AlignedDevice(scratch)
    }

    /// A part of the disk whose units are all in the same place.
    private struct Run {
        let place: OverlayMap.Place
        let range: ByteRange
    }

    /// The run at the start of a range, which is within the disk and not empty.
    private func run(at offset: UInt64, before end: UInt64) -> Run {
        let units = offset / unitSize..<end.units(of: unitSize)
        let (place, count) = map.withLock { $0.run(in: units) }
        let runEnd = min(end, (units.lowerBound + count) * unitSize)
        return Run(place: place, range: ByteRange(offset: offset, length: runEnd - offset) ?? .empty)
    }

    private func set(_ range: ByteRange, to place: OverlayMap.Place) {
        let units = self.units(range)
        map.withLock { $0.set(units, to: place) }
    }

    /// The units that a range touches.
    private func units(_ range: ByteRange) -> Range<UInt64> { range.offset / unitSize..<range.end.units(of: unitSize) }

    // MARK: Reading

    /// One read for each run that the range touches.
    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "overlay")
        guard let range = ByteRange(offset: offset, length: UInt64(buffer.byteCount)) else { return }
        try changes.read(units(range), mode) { () throws(BlockError) in
            try readRuns(into: &buffer, at: offset, mode)
        }
    }

    private func readRuns(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        let end = offset + UInt64(buffer.byteCount)
        var position = offset
        while position < end {
            try mode.look()
            let run = run(at: position, before: end)
            let place = Int(position - offset)..<Int(run.range.end - offset)
            try buffer.withSlice(place) { (slice) throws(BlockError) in
                switch run.place {
                case .below: try below.read(into: &slice, at: position, mode)
                case .scratch: try parts.read(into: &slice, at: position, mode)
                case .zeros: slice.clear()
                }
            }
            position = run.range.end
        }
    }

    /// What the disk below says where nothing was changed, one layer deeper.
    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("overlay: there is no byte \(offset)") }
        let run = run(at: offset, before: offset + min(limit, size - offset))
        switch run.place {
        case .scratch: return Extent(offset: offset, length: run.range.length, kind: .data)
        case .zeros: return Extent(offset: offset, length: run.range.length, kind: .zero)
        case .below:
            let extent = try below.extent(at: offset, limit: run.range.length, mode)
            return Extent(
                offset: offset, length: extent.length, kind: extent.kind,
                depth: extent.depth == 0 ? 0 : extent.depth + 1)
        }
    }

    /// Of the disk below and of the scratch file, each as far as it has the range.
    func prefetch(_ range: ByteRange, _ budget: Budget) {
        guard range.fits(size) else { return }
        var position = range.offset
        while position < range.end, budget.look() {
            let run = run(at: position, before: range.end)
            switch run.place {
            case .below: below.prefetch(run.range, budget)
            case .scratch: parts.prefetch(run.range, budget)
            case .zeros: break
            }
            position = run.range.end
        }
    }

    // MARK: Changing

    /// One write to the scratch file for each run of whole units; a unit that is not there and is written in part is copied.
    func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        try checkBounds(bytes.byteCount, at: offset, layer: "overlay")
        guard let range = ByteRange(offset: offset, length: UInt64(bytes.byteCount)) else { return }
        changes.acquire(units(range))
        defer { changes.release(units(range)) }
        try put(&bytes, range)
    }

    /// Writes bytes whose units this thread holds.
    private func put(_ bytes: inout MutableRawSpan, _ range: ByteRange) throws(BlockError) {
        var position = range.offset
        while position < range.end {
            let run = run(at: position, before: range.end)
            let start = position
            position = run.place == .scratch ? run.range.end : step(in: run.range)
            guard let part = ByteRange(offset: start, length: position - start) else { return }
            let place = Int(start - range.offset)..<Int(position - range.offset)
            try bytes.withSlice(place) { (slice) throws(BlockError) in
                guard run.place != .scratch else { return try parts.write(&slice, at: start, []) }
                if isWhole(part) {
                    try scratch.write(&slice, at: start, [])
                } else {
                    try copy(part, from: run.place, changedTo: slice.bytes)
                }
                set(part, to: .scratch)
            }
        }
    }

    /// The end of what can be done at once at the start of a range: whole units, or a part of one.
    private func step(in range: ByteRange) -> UInt64 {
        let whole = range.end / unitSize * unitSize
        return range.offset % unitSize == 0 && whole > range.offset
            ? whole : min(range.end, range.offset / unitSize * unitSize + unitSize)
    }

    private func isWhole(_ part: ByteRange) -> Bool { (part.offset | part.length) % unitSize == 0 }

    /// Writes a unit to the scratch file, with other bytes in a part of it; behind the end of the disk there are zeros.
    private func copy(_ part: ByteRange, from place: OverlayMap.Place, changedTo bytes: RawSpan) throws(BlockError) {
        let start = part.offset / unitSize * unitSize
        let count = min(unitSize, size - start)
        var unit = [UInt8](repeating: 0, count: Int(count.roundedUp(to: UInt64(OverlayScratch.sectorSize))))
        try unit.withMutableBytes { (unit) throws(BlockError) in
            if place == .below {
                try unit.withSlice(0..<Int(count)) { (old) throws(BlockError) in
                    try below.read(into: &old, at: start, .mayBlock)
                }
            }
            unit.withSlice(Int(part.offset - start)..<Int(part.end - start)) { $0.copy(from: bytes) }
            try scratch.write(&unit, at: start, [])
        }
    }

    /// Whole units are said to be zeros, which is always fast; parts of others are written.
    func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        try checkBounds(range, layer: "overlay")
        changes.acquire(units(range))
        defer { changes.release(units(range)) }
        let (head, whole, tail) = split(range)
        try putZeros(head)
        if whole.length > 0 { try setZero(whole, givesBack: options.contains(.mayDiscard)) }
        try putZeros(tail)
    }

    /// Whole units read as zeros afterwards.
    func discard(_ range: ByteRange) throws(BlockError) {
        try checkBounds(range, layer: "overlay")
        changes.acquire(units(range))
        defer { changes.release(units(range)) }
        let whole = split(range).whole
        if whole.length > 0 { try setZero(whole, givesBack: true) }
    }

    /// Nothing: changes end with the device, at a power failure as always.
    func flush() {}

    /// A range as a part of a unit, whole units, and a part of a unit; the last unit of the disk is whole if all is in it that
    /// the disk has.
    private func split(_ range: ByteRange) -> (head: ByteRange, whole: ByteRange, tail: ByteRange) {
        let first = min(range.end, range.offset.roundedUp(to: unitSize))
        let last = range.end == size ? range.end : max(first, range.end / unitSize * unitSize)
        func part(_ start: UInt64, _ end: UInt64) -> ByteRange {
            ByteRange(offset: start, length: end - start) ?? .empty
        }
        return (part(range.offset, first), part(first, last), part(last, range.end))
    }

    private func setZero(_ range: ByteRange, givesBack: Bool) throws(BlockError) {
        set(range, to: .zeros)
        guard givesBack else { return }
        // What somebody reads there, who has found the units in the scratch file, is noise.
        try changes.disturb { () throws(BlockError) in try scratch.discard(range) }
    }

    /// Makes a part of a unit zero, if it is not.
    private func putZeros(_ range: ByteRange) throws(BlockError) {
        guard range.length > 0, run(at: range.offset, before: range.end).place != .zeros else { return }
        var zeros = [UInt8](repeating: 0, count: Int(range.length))
        try zeros.withMutableBytes { (zeros) throws(BlockError) in try put(&zeros, range) }
    }
}
