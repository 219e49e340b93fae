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
        let vectors = try vectors.vectors(firstSector: firstSector, count: sectors.byteCount / sectorSize)
        // The difference between what the chain adds at a sector's start and what belongs there.
        var corrections = VectorBatch(size: blockSize, count: vectors.count)
        for sector in 1..<max(1, vectors.count) {
            let before = sector * sectorSize - blockSize
            let wanted = vectors.memoryWords(at: sector)
            corrections.setMemoryWords(
                (
                    sectors.memoryWord(at: before) ^ wanted.first,
                    sectors.memoryWord(at: before + blockSize - 8) ^ wanted.last
                ), at: sector)
        }
        try cipher.transform(&sectors, unit: sectors.byteCount, vectors: vectors)
        for sector in 1..<max(1, vectors.count) {
            let start = sector * sectorSize
            let correction = corrections.memoryWords(at: sector)
            // In a block of 8 bytes, first and last word are the same one.
            sectors.storeBytes(
                of: sectors.memoryWord(at: start) ^ correction.first, toByteOffset: start, as: UInt64.self)
            if blockSize == 16 {
                let word = sectors.memoryWord(at: start + 8) ^ correction.last
                sectors.storeBytes(of: word, toByteOffset: start + 8, as: UInt64.self)
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
