// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Where the bytes of a disk with an overlay are: in units of a size that follows from that of the disk.
///
/// It takes 2 bits for a unit, in leaves of 4096 units, and none where all units of a leaf are the same: at most
/// ``maximumUnitCount`` / 4 bytes for leaves, 64 MiB, and 8 bytes for each leaf, 512 KiB.
struct OverlayMap {
    /// Where the bytes of a unit are.
    enum Place: UInt64 {
        /// In the disk below.
        case below = 0
        /// In the scratch file.
        case scratch = 1
        /// Nowhere: they are zeros.
        case zeros = 2

        /// As all units of a word have it.
        var word: UInt64 { rawValue * 0x5555_5555_5555_5555 }
    }

    /// More units than this are made larger ones.
    static let maximumUnitCount: UInt64 = 1 << 28
    /// In bytes: a page of memory, and a sector of the cipher. Disks up to 1 TiB have it.
    static let smallestUnit: UInt64 = 4096
    /// In bytes: what a write that is smaller may have to copy.
    static let largestUnit: UInt64 = 1 << 20
    /// The largest disk that can have an overlay, in bytes: 256 TiB.
    static let maximumSize = maximumUnitCount * largestUnit

    private static let unitsOfWord = 32
    private static let unitsOfLeaf = 4096

    private enum Leaf {
        case same(Place)
        case different([UInt64])
    }

    /// In bytes, a power of two.
    let unitSize: UInt64
    private var leaves: [Leaf]

    /// All of it is below.
    ///
    /// - Parameter size: of the disk, in bytes.
    /// - Returns: nil when that is more than ``maximumSize``.
    init?(size: UInt64) {
        guard size <= Self.maximumSize else { return nil }
        var unitSize = Self.smallestUnit
        while size.units(of: unitSize) > Self.maximumUnitCount { unitSize *= 2 }
        self.unitSize = unitSize
        let count = size.units(of: unitSize).units(of: UInt64(Self.unitsOfLeaf))
        leaves = Array(repeating: .same(.below), count: Int(count))
    }

    /// How many leaves take memory.
    var leafCount: Int { leaves.count { if case .different = $0 { true } else { false } } }

    /// Where a unit is, and how many from there on are in the same place.
    ///
    /// - Parameter units: within the disk, not empty: a run does not reach beyond it.
    func run(in units: Range<UInt64>) -> (place: Place, count: UInt64) {
        let place = self[units.lowerBound]
        var unit = units.lowerBound
        while unit < units.upperBound {
            let (leaf, inLeaf) = Self.split(unit, units.upperBound)
            let count =
                switch leaves[leaf] {
                case .same(place): inLeaf.count
                case .same: 0
                case .different(let words): Self.run(in: words, inLeaf, place)
                }
            unit += UInt64(count)
            guard count == inLeaf.count else { break }
        }
        return (place, unit - units.lowerBound)
    }

    /// Says where units are from now on.
    ///
    /// - Parameter units: within the disk.
    mutating func set(_ units: Range<UInt64>, to place: Place) {
        var unit = units.lowerBound
        while unit < units.upperBound {
            let (leaf, inLeaf) = Self.split(unit, units.upperBound)
            set(inLeaf, of: leaf, to: place)
            unit += UInt64(inLeaf.count)
        }
    }

    private subscript(_ unit: UInt64) -> Place {
        let (leaf, inLeaf) = Self.split(unit, unit + 1)
        switch leaves[leaf] {
        case .same(let place): return place
        case .different(let words):
            let bits = words[inLeaf.lowerBound / Self.unitsOfWord] >> (2 * (inLeaf.lowerBound % Self.unitsOfWord))
            // Nothing else is written.
            return Place(rawValue: bits & 3) ?? .below
        }
    }

    /// The leaf of a unit, and which of its units are those from there to `end`.
    private static func split(_ unit: UInt64, _ end: UInt64) -> (leaf: Int, inLeaf: Range<Int>) {
        let first = Int(unit % UInt64(unitsOfLeaf))
        return (Int(unit / UInt64(unitsOfLeaf)), first..<Int(min(UInt64(unitsOfLeaf), UInt64(first) + (end - unit))))
    }

    /// How many units at the start of a range are in a place.
    private static func run(in words: [UInt64], _ units: Range<Int>, _ place: Place) -> Int {
        var unit = units.lowerBound
        while unit < units.upperBound {
            let others = (words[unit / unitsOfWord] ^ place.word) >> (2 * (unit % unitsOfWord))
            guard others == 0 else {
                return min(units.upperBound, unit + others.trailingZeroBitCount / 2) - units.lowerBound
            }
            unit = (unit / unitsOfWord + 1) * unitsOfWord
        }
        return units.count
    }

    private mutating func set(_ units: Range<Int>, of leaf: Int, to place: Place) {
        guard units.count < Self.unitsOfLeaf else { return leaves[leaf] = .same(place) }
        var words: [UInt64]
        switch leaves[leaf] {
        case .same(place): return
        case .same(let other): words = Array(repeating: other.word, count: Self.unitsOfLeaf / Self.unitsOfWord)
        case .different(let others):
            words = others
            // Otherwise there would be two of them, and a change would copy one.
            leaves[leaf] = .same(place)
        }
        var unit = units.lowerBound
        while unit < units.upperBound {
            let first = unit % Self.unitsOfWord
            let count = min(Self.unitsOfWord - first, units.upperBound - unit)
            let mask = (UInt64.max >> UInt64(64 - 2 * count)) << UInt64(2 * first)
            words[unit / Self.unitsOfWord] = words[unit / Self.unitsOfWord] & ~mask | place.word & mask
            unit += count
        }
        leaves[leaf] = words.allSatisfy { $0 == place.word } ? .same(place) : .different(words)
    }
}
