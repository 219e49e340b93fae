// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// What 512 decrypted bytes look like.
enum SectorCharacter: Equatable {
    /// Not noise: zeros, a fill pattern, text, tables, program code.
    case structured
    /// What a wrong key gives; also what compressed or encrypted data look like with the right one.
    case noise
    /// Noise that repeats itself: the ciphertext has never been encrypted, whatever the key. Says nothing.
    ///
    /// A preallocated cluster is zeros in the file. CBC decrypts every block of these to the same 16 random bytes;
    /// only the first block differs, by the sector's number in its initialization vector.
    case repetitive

    private static let blockSize = 16

    /// - Parameter sector: 512 bytes; a ragged end that is no whole block of 16 bytes is left out.
    ///
    /// The statistic is the number of *pairs of equal bytes*. It is small for noise, and everything else has more: a
    /// constant fill, few distinct values, values that are more frequent than others. With a wrong key, the chance that
    /// noise passes for structure is below 10^-15 a sector:
    ///
    /// - One block of 16 bytes has at least 45 pairs, as ten equal bytes have: 1.7 × 10^-18 a block. Or its halves are
    ///   equal, as in a short pattern that repeats: 5 × 10^-20 a block.
    /// - The whole sector has more pairs than `expected + 40 + 8 × blocks`. Expected are n(n−1)/2/256 among n bytes: 511
    ///   for all 32 blocks. The exact distribution crosses 10^-15 at 31 pairs for 1 block, 132 for 8, 284 for 16 and
    ///   773 for 32 (expected + 31, 100, 157, 262); the formula is above it for every number of blocks. The figures are
    ///   from Benchmarks/ContentCheck/equal-pairs.py.
    ///
    /// Blocks that share a half with an earlier one are left out of the second: where ciphertext is stale data that
    /// were never encrypted, the likeness comes from the *ciphertext* and would be taken for structure. No two blocks
    /// of real noise are that much alike (10^-16 a sector).
    init(_ sector: RawSpan) {
        var (leftHalves, rightHalves) = (Set<UInt64>(), Set<UInt64>())
        var blockPairs = EqualPairs()
        var sectorPairs = EqualPairs()
        var blockCount = 0
        let allBlocks = sector.byteCount / Self.blockSize
        for index in 0..<allBlocks {
            let left = sector.littleEndianWord(at: index * Self.blockSize)
            let right = sector.littleEndianWord(at: index * Self.blockSize + 8)
            blockPairs.add(left)
            blockPairs.add(right)
            if left == right || blockPairs.count >= 45 {
                self = .structured
                return
            }
            blockPairs.remove(right)
            blockPairs.remove(left)
            let isNew = (leftHalves.insert(left).inserted, rightHalves.insert(right).inserted)
            guard isNew == (true, true) else { continue }
            blockCount += 1
            sectorPairs.add(left)
            sectorPairs.add(right)
        }
        let byteCount = blockCount * Self.blockSize
        let expected = byteCount * (byteCount - 1) / 512
        if sectorPairs.count > expected + 40 + 8 * blockCount {
            self = .structured
        } else {
            self = blockCount == allBlocks ? .noise : .repetitive
        }
    }
}

/// Counts pairs of equal bytes in a growing and shrinking collection.
private struct EqualPairs {
    private(set) var count = 0
    private var occurrences = [Int](repeating: 0, count: 256)

    /// Adds the eight bytes of a word.
    mutating func add(_ word: UInt64) {
        var (rest, remaining) = (word, 8)
        while remaining > 0 {
            count += occurrences[Int(rest & 0xFF)]
            occurrences[Int(rest & 0xFF)] += 1
            (rest, remaining) = (rest >> 8, remaining - 1)
        }
    }

    /// Takes out the bytes of a word that was added before.
    mutating func remove(_ word: UInt64) {
        var (rest, remaining) = (word, 8)
        while remaining > 0 {
            occurrences[Int(rest & 0xFF)] -= 1
            count -= occurrences[Int(rest & 0xFF)]
            (rest, remaining) = (rest >> 8, remaining - 1)
        }
    }
}
