// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Sectors that are CBC chains, each with a vector of its own.
final class CBCSectorCipher: SectorCipher {
    let sectorSize: Int
    private let cipher: any LibraryCipher
    private let vectors: SectorIV
    private let blockSize: Int

    /// - Parameter cipher: decrypts in CBC mode.
    init(_ cipher: any LibraryCipher, blockSize: Int, vectors: SectorIV, sectorSize: Int) {
        self.cipher = cipher
        self.blockSize = blockSize
        self.vectors = vectors
        self.sectorSize = sectorSize
    }

    func decrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        try sectors.forEachBatch(of: sectorSize, firstSector: firstSector) { (batch, first) throws(BlockError) in
            try decryptBatch(&batch, firstSector: first)
        }
    }

    /// Decrypts all sectors as one chain, then mends the first block of each.
    ///
    /// CBC adds the ciphertext block before to each decrypted block. The chain adds the last block of the sector before
    /// where the sector's own vector belongs; so take the one out and put the other in.
    private func decryptBatch(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        let count = sectors.byteCount / sectorSize
        var vectors = try vectors.vectors(firstSector: firstSector, count: count)
        let words = blockSize / 8
        // Of all vectors but the first: the difference between what the chain adds and what belongs there.
        vectors.withWords { vectors in
            for sector in 1..<max(1, count) {
                let before = sector * sectorSize - blockSize
                for word in 0..<words { vectors[sector * words + word] ^= sectors.memoryWord(at: before + 8 * word) }
            }
        }
        try cipher.transform(&sectors, unit: sectors.byteCount, vectors: vectors)
        vectors.withWords { vectors in
            for sector in 1..<max(1, count) {
                for word in 0..<words {
                    let place = sector * sectorSize + 8 * word
                    let mended = sectors.memoryWord(at: place) ^ vectors[sector * words + word]
                    sectors.storeBytes(of: mended, toByteOffset: place, as: UInt64.self)
                }
            }
        }
    }
}

extension MutableRawSpan {
    /// The 64 bits at `offset` bytes as they are in memory.
    fileprivate func memoryWord(at offset: Int) -> UInt64 { bytes.littleEndianWord(at: offset).littleEndian }

    /// Gives `body` the sectors of this span in batches of ``VectorBatch/capacity``, each with the number of its first
    /// in units of 512 bytes.
    mutating func forEachBatch(
        of sectorSize: Int, firstSector: UInt64,
        _ body: (inout MutableRawSpan, UInt64) throws(BlockError) -> Void
    ) throws(BlockError) {
        let batchBytes = VectorBatch.capacity * sectorSize
        for start in stride(from: 0, to: byteCount, by: batchBytes) {
            let number = firstSector.addingReportingOverflow(UInt64(start / 512)).partialValue
            try withSlice(start..<Swift.min(start + batchBytes, byteCount)) { (batch) throws(BlockError) in
                try body(&batch, number)
            }
        }
    }
}
