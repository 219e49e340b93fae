// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Places all over the stored data of an image, found by looking at a bounded number of extents.
///
/// They depend on nothing but the map of the image: the same image gives the same verdict every time.
struct SampleSpread {
    /// Where to look: whole sectors of stored data, in order, without overlap; at most 4 KiB each, 2 MiB together.
    let places: [ByteRange]

    private static let sectorSize = EvidenceReader.sectorSize
    private static let placeLength: UInt64 = 4096
    private static let mostPlaces: UInt64 = 512
    /// How far to go on where the map of the image cannot be read.
    private static let stepOverDamage: UInt64 = 64 << 10

    /// Finds stored data with the extent budget of `reader`.
    init(_ reader: inout EvidenceReader) {
        let walkEnd = reader.extentBudget / 2
        var stored = StoredRanges(size: reader.size)
        while reader.extentBudget > walkEnd, stored.reached < reader.size {
            Self.look(at: stored.reached, &reader, &stored)
        }
        // What the walk has left is visited in steps.
        let start = stored.reached
        let steps = UInt64(reader.extentBudget / 2)
        let step = max(Self.sectorSize, (reader.size - start) / max(1, steps))
        for index in 0..<steps {
            // Not always the same distance: file systems put their structures at round ones.
            let jitter = index.multipliedReportingOverflow(by: 0x9E37_79B9_7F4A_7C15).partialValue % step
            let offset = start + index * step + jitter / Self.sectorSize * Self.sectorSize
            guard offset < reader.size else { break }
            if offset > stored.reached { Self.look(at: offset, &reader, &stored) }
            // Behind a hole comes, most often, data.
            if stored.reached < reader.size, stored.endsInHole { Self.look(at: stored.reached, &reader, &stored) }
        }
        places = Self.places(in: stored.ranges)
    }

    /// Asks for the extent at `offset`, which has not been asked for before.
    private static func look(at offset: UInt64, _ reader: inout EvidenceReader, _ stored: inout StoredRanges) {
        if let extent = reader.extent(at: offset) {
            stored.add(extent)
        } else {
            stored.skip(to: offset + min(stepOverDamage, reader.size - offset))
        }
    }

    /// Everything when that is little; else half of the places spread evenly over the stored bytes, and the others where
    /// structures are more likely than files: at the start of the disk and at the starts of ranges.
    private static func places(in ranges: [ByteRange]) -> [ByteRange] {
        let total = ranges.reduce(0) { $0 + $1.length }
        var starts: [UInt64] = []
        if total <= mostPlaces * placeLength {
            for range in ranges { starts += stride(from: range.offset, to: range.end, by: Int(placeLength)) }
        } else {
            let (head, between) = (mostPlaces / 8, Int(mostPlaces * 3 / 8))
            starts = ranges.prefix(1).flatMap { first in
                stride(from: first.offset, to: min(first.end, first.offset + head * placeLength), by: Int(placeLength))
            }
            let every = (ranges.count + between - 1) / between
            starts += ranges.enumerated().filter { $0.offset % every == 0 }.map(\.element.offset)
            starts += evenly(Int(mostPlaces / 2), over: ranges, total: total)
            starts.sort()
        }
        return withoutOverlap(starts, in: ranges)
    }

    /// Offsets at equal distances in the stored bytes.
    private static func evenly(_ count: Int, over ranges: [ByteRange], total: UInt64) -> [UInt64] {
        let distance = total / UInt64(count)
        var offsets: [UInt64] = []
        var before: UInt64 = 0
        for range in ranges {
            while offsets.count < count, UInt64(offsets.count) * distance < before + range.length {
                let inRange = UInt64(offsets.count) * distance - before
                offsets.append(range.offset + inRange / sectorSize * sectorSize)
            }
            before += range.length
        }
        return offsets
    }

    /// The place that begins at each of the sorted offsets, ended where its range or the next place says.
    private static func withoutOverlap(_ starts: [UInt64], in ranges: [ByteRange]) -> [ByteRange] {
        var places: [ByteRange] = []
        var remaining = ranges[...]
        for start in starts {
            while let range = remaining.first, range.end <= start { remaining.removeFirst() }
            guard let range = remaining.first, start >= (places.last?.end ?? 0) else { continue }
            let length = min(placeLength, range.end - start)
            if let place = ByteRange(offset: start, length: length) { places.append(place) }
        }
        return places
    }
}

/// Ranges of stored data in order, made of whole sectors.
private struct StoredRanges {
    private let size: UInt64
    /// In order, neighbours joined.
    private(set) var ranges: [ByteRange] = []
    /// Everything before this byte has been looked at or skipped.
    private(set) var reached: UInt64 = 0
    /// The last extent was not data.
    private(set) var endsInHole = false

    init(size: UInt64) { self.size = size }

    mutating func skip(to offset: UInt64) {
        reached = offset
        endsInHole = false
    }

    mutating func add(_ extent: Extent) {
        // A device that answers with nothing must not stop the walk.
        let end = extent.offset + min(max(1, extent.length), size - extent.offset)
        reached = end
        endsInHole = extent.kind != .data
        let sector = EvidenceReader.sectorSize
        let first = (extent.offset + (sector - extent.offset % sector) % sector)
        let last = end / sector * sector
        guard extent.kind == .data, first < last else { return }
        let joined = ranges.last.flatMap { $0.end == first ? $0.offset : nil }
        if joined != nil { ranges.removeLast() }
        if let range = ByteRange(offset: joined ?? first, length: last - (joined ?? first)) { ranges.append(range) }
    }
}
