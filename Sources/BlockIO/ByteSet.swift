// SPDX-License-Identifier: Apache-2.0

/// Some of the bytes of a disk, exactly, in memory that does not grow with the disk.
///
/// The disk is cut into at most 65,536 segments, so that a change is one of a short list. Ranges that meet become one.
public struct ByteSet: Sendable {
    private static let maximumSegmentCount: UInt64 = 1 << 16
    /// Of all segments, apart from those that are all or nothing: 16 MiB.
    private static let maximumRangeCount = 1 << 20

    /// Of the disk, in bytes.
    public let size: UInt64
    /// How many bytes are in the set.
    public private(set) var count: UInt64 = 0
    /// How many bytes found no room, and are not in the set, though they were put in; those that came more than once count
    /// each time.
    public private(set) var leftOut: UInt64 = 0

    private let segmentSize: UInt64
    /// Ranges of the disk in each segment, in order, that do not meet.
    private var segments: [[Range<UInt64>]]
    private var rangeCount = 0

    /// Nothing of a disk of so many bytes.
    public init(size: UInt64) {
        self.size = size
        segmentSize = max(1 << 20, size.units(of: Self.maximumSegmentCount))
        segments = Array(repeating: [], count: Int(size.units(of: segmentSize)))
    }

    /// Puts bytes in; those behind the end of the disk are ignored.
    public mutating func insert(_ range: Range<UInt64>) {
        var position = range.lowerBound
        let end = min(range.upperBound, size)
        while position < end {
            let index = Int(position / segmentSize)
            let next = min(end, UInt64(index + 1) * segmentSize)
            insert(position..<next, in: index)
            position = next
        }
    }

    private mutating func insert(_ new: Range<UInt64>, in index: Int) {
        // The first that does not end before the new one begins, and the first that begins behind its end.
        let first = segments[index].partitioningIndex { $0.upperBound >= new.lowerBound }
        var last = first
        var sum = new
        var known: UInt64 = 0
        while last < segments[index].count, segments[index][last].lowerBound <= new.upperBound {
            let range = segments[index][last]
            known += UInt64(range.count)
            sum = min(sum.lowerBound, range.lowerBound)..<max(sum.upperBound, range.upperBound)
            last += 1
        }
        guard first < last || rangeCount < Self.maximumRangeCount else {
            leftOut += UInt64(new.count)
            return
        }
        rangeCount += 1 - (last - first)
        count += UInt64(sum.count) - known
        segments[index].replaceSubrange(first..<last, with: CollectionOfOne(sum))
    }

    /// The bytes that are not in the set, in order, joined where they meet.
    ///
    /// - Parameter limit: how many ranges at most.
    public func gaps(limit: Int) -> [ByteRange] {
        var gaps: [ByteRange] = []
        forEachGap { gap in
            if gaps.count < limit, let gap = ByteRange(offset: gap.lowerBound, length: UInt64(gap.count)) {
                gaps.append(gap)
            }
        }
        return gaps
    }

    /// How many ranges are not in the set.
    public var gapCount: Int {
        var count = 0
        forEachGap { _ in count += 1 }
        return count
    }

    private func forEachGap(_ body: (Range<UInt64>) -> Void) {
        var position: UInt64 = 0
        for range in segments.joined() {
            if range.lowerBound > position { body(position..<range.lowerBound) }
            position = range.upperBound
        }
        if position < size { body(position..<size) }
    }

    /// The bytes that are in this set, or in another one of the same disk.
    public func union(_ other: ByteSet) -> ByteSet {
        var union = self
        for range in other.segments.joined() { union.insert(range) }
        return union
    }

    /// Is this byte in the set?
    public func contains(_ offset: UInt64) -> Bool {
        guard offset < size else { return false }
        let ranges = segments[Int(offset / segmentSize)]
        let index = ranges.partitioningIndex { $0.upperBound > offset }
        return index < ranges.count && ranges[index].contains(offset)
    }

    /// Are all bytes of the disk in the set?
    public var isComplete: Bool { count == size }
}

extension [Range<UInt64>] {
    /// The first place from which on `isBehind` is true, as it is nowhere before.
    fileprivate func partitioningIndex(_ isBehind: (Range<UInt64>) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if isBehind(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
