// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Splits data into runs of whole units of zeros and runs of the rest.
struct ZeroRuns {
    /// Of the data, in bytes.
    private let count: Int
    private let firstBoundary: Int
    private let unit: Int
    private var position = 0
    /// Is the unit at `position` zero? Nil when that is not known.
    private var isNextZero: Bool?

    /// Bytes that are all zeros, or that are not known to be.
    struct Run: Equatable {
        let isZero: Bool
        /// From the start of the data, in bytes.
        let range: Range<Int>
    }

    /// - Parameters:
    ///   - count: of the data, in bytes.
    ///   - firstBoundary: where the first whole unit starts.
    init(count: Int, firstBoundary: Int, unit: Int) {
        (self.count, self.firstBoundary, self.unit) = (count, firstBoundary, unit)
    }

    /// The next run of the data that starts at `start` of `bytes`; nil at the end.
    mutating func next(in bytes: borrowing MutableRawSpan, from start: Int) -> Run? {
        guard position < count else { return nil }
        let first = position
        let isZero = isNextZero ?? isZeroUnit(bytes, start)
        var isSame = true
        while isSame, position < count {
            position = endOfUnit
            if position < count {
                let isNext = isZeroUnit(bytes, start)
                isNextZero = isNext
                isSame = isNext == isZero
            }
        }
        return Run(isZero: isZero, range: first..<position)
    }

    private var endOfUnit: Int {
        position < firstBoundary ? min(firstBoundary, count) : min(position + unit, count)
    }

    /// Ragged ends are no whole units.
    private func isZeroUnit(_ bytes: borrowing MutableRawSpan, _ start: Int) -> Bool {
        let end = endOfUnit
        guard position >= firstBoundary, end - position == unit else { return false }
        return bytes.isZero((start + position)..<(start + end))
    }
}
