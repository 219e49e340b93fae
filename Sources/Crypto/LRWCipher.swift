// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The mode LRW (draft 4 of IEEE P1619, and crypto/lrw.c of Linux) over a block cipher of 16-byte blocks in ECB mode.
///
/// Block number i, counted on from the vector, is `T ^ cipher(block ^ T)` in either direction, and its tweak T is the product of the tweak key
/// and i in GF(2^128) modulo x^128 + x^7 + x^2 + x + 1. Keys, numbers and tweaks are big-endian polynomials.
/// A product is linear in i, so that it is the sum of what the bits of i contribute, and the tweak of the next block
/// differs by what the bits contribute that change: two tables, and one addition for each block. Tweaks are computed
/// twice, before and behind the cipher, rather than kept: that of block 1 is the tweak key.
final class LRWCipher: LibraryCipher {
    private let cipher: any LibraryCipher
    /// As blocks are in memory: 128 products of the tweak key and x^n; then 128 of the key and x^n + … + x + 1.
    private let table: Secret

    private static let blockSize = 16
    private static let tableSize = 128 * blockSize

    /// - Parameters:
    ///   - cipher: in ECB mode.
    ///   - tweakKey: of 16 bytes.
    init(_ cipher: any LibraryCipher, tweakKey: Secret) {
        self.cipher = cipher
        self.table = SecureHeap.use {
            tweakKey.withBytes { key in Secret(count: 2 * Self.tableSize) { Self.fill(&$0, key) } }
        }
    }

    @inline(never)
    private static func fill(_ table: inout MutableRawSpan, _ key: RawSpan) {
        var product = UInt128(key.bigEndianWord(at: 0)) << 64 | UInt128(key.bigEndianWord(at: 8))
        var sum: UInt128 = 0
        for place in stride(from: 0, to: tableSize, by: blockSize) {
            sum ^= product
            table.storeBytes(of: product.bigEndian, toByteOffset: place, as: UInt128.self)
            table.storeBytes(of: sum.bigEndian, toByteOffset: tableSize + place, as: UInt128.self)
            // Times x, without a branch that would depend on the key.
            product = (product << 1) ^ (product >> 127) * 0x87
        }
    }

    func transform(
        _ bytes: inout MutableRawSpan, _ direction: CipherDirection, unit: Int, vectors: borrowing VectorBatch
    ) throws(BlockError) {
        addTweaks(to: &bytes, unit: unit, vectors)
        try cipher.transform(&bytes, direction, unit: bytes.byteCount, vectors: .none)
        addTweaks(to: &bytes, unit: unit, vectors)
    }

    private func addTweaks(to bytes: inout MutableRawSpan, unit: Int, _ vectors: borrowing VectorBatch) {
        // What the compiler puts on the stack is wiped.
        SecureHeap.use {
            table.withBytes { table in
                for index in 0..<(bytes.byteCount / unit) {
                    let start = index * unit
                    Self.addTweaks(to: &bytes, start..<(start + unit), from: vectors.bigEndianNumber(at: index), table)
                }
            }
        }
    }

    /// Adds the tweaks of consecutive blocks; the number of the first is `number`.
    @inline(never)
    private static func addTweaks(
        to bytes: inout MutableRawSpan, _ range: Range<Int>, from number: UInt128, _ table: RawSpan
    ) {
        var tweak: UInt128 = 0
        var bits = number
        while bits != 0 {
            tweak ^= table.word(at: bits.trailingZeroBitCount * blockSize, as: UInt128.self)
            bits &= bits.subtractingReportingOverflow(1).partialValue
        }
        var number = number
        for place in stride(from: range.lowerBound, to: range.upperBound, by: blockSize) {
            bytes.add(tweak, at: place)
            // Counting on changes the ones at the end, and the zero before them; behind the last number comes zero.
            let changed = min((~number).trailingZeroBitCount, 127)
            tweak ^= table.word(at: tableSize + changed * blockSize, as: UInt128.self)
            number = number.addingReportingOverflow(1).partialValue
        }
    }
}
