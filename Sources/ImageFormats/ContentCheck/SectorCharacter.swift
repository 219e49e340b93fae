// SPDX-License-Identifier: Apache-2.0

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

    private static let wordsPerBlock = 4
    private static let blockSize = 16

    /// - Parameter sector: 512 bytes.
    ///
    /// Two statistics decide, both on the number of *pairs of equal bytes*. It is small for noise, and everything else
    /// has more: a constant fill, few distinct values, values that are more frequent than others. With a wrong key, the
    /// chance that noise passes for structure is below 10^-15 a sector.
    ///
    /// - One block of 16 bytes, at least 45 pairs, as ten equal bytes have. Chance: 1.7 × 10^-18 a block.
    /// - The whole sector, more pairs than `expected + 40 + 8 × blocks`. Expected are n(n−1)/2/256 among n bytes: 511
    ///   for all 32 blocks. The exact distribution crosses 10^-15 at 31 pairs for 1 block, 132 for 8, 284 for 16 and
    ///   773 for 32 (expected + 31, 100, 157, 262); the formula is above it for every number of blocks.
    ///
    /// Blocks that differ from an earlier one in at most one of their four words are left out of the second: in stale
    /// data that was never encrypted, such blocks come from the *ciphertext* and would be counted as structure. No two
    /// blocks of real noise are that much alike (chance 10^-26 a sector).
    init(_ sector: ArraySlice<UInt8>) {
        var blocks: [[UInt32]] = []
        var sectorPairs = EqualPairs()
        var blockPairs = EqualPairs()
        for start in stride(from: sector.startIndex, to: sector.endIndex, by: Self.blockSize) {
            let bytes = sector[start..<min(start + Self.blockSize, sector.endIndex)]
            blockPairs.add(bytes)
            guard blockPairs.count < 45 else {
                self = .structured
                return
            }
            blockPairs.remove(bytes)
            let block = Self.words(bytes)
            if blocks.contains(where: { Self.areAlike($0, block) }) { continue }
            blocks.append(block)
            sectorPairs.add(bytes)
        }
        let count = blocks.count * Self.blockSize
        let expected = count * (count - 1) / 512
        if sectorPairs.count > expected + 40 + 8 * blocks.count {
            self = .structured
        } else {
            self = blocks.count * Self.blockSize == sector.count ? .noise : .repetitive
        }
    }

    private static func words(_ block: ArraySlice<UInt8>) -> [UInt32] {
        var words = [UInt32](repeating: 0, count: wordsPerBlock)
        for (index, byte) in block.enumerated() { words[index / 4] = words[index / 4] << 8 | UInt32(byte) }
        return words
    }

    /// Do two blocks agree in three of their four words?
    private static func areAlike(_ one: [UInt32], _ other: [UInt32]) -> Bool {
        var equal = 0
        for index in 0..<wordsPerBlock where one[index] == other[index] { equal += 1 }
        return equal >= wordsPerBlock - 1
    }
}

/// Counts pairs of equal bytes in a growing and shrinking collection.
private struct EqualPairs {
    private(set) var count = 0
    private var occurrences = [Int](repeating: 0, count: 256)

    mutating func add(_ bytes: ArraySlice<UInt8>) {
        for byte in bytes {
            count += occurrences[Int(byte)]
            occurrences[Int(byte)] += 1
        }
    }

    /// Takes out what was added before.
    mutating func remove(_ bytes: ArraySlice<UInt8>) {
        for byte in bytes {
            occurrences[Int(byte)] -= 1
            count -= occurrences[Int(byte)]
        }
    }
}
