// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Sectors that are CBC chains, each with a vector of its own.
final class CBCSectorCipher: SectorCipher {
    let sectorSize: Int
    private let cipher: any LibraryCipher
    private let vectors: SectorIV
    private let blockSize: Int

    /// - Parameter cipher: in CBC mode.
    init(_ cipher: any LibraryCipher, blockSize: Int, vectors: SectorIV, sectorSize: Int) {
        self.cipher = cipher
        self.blockSize = blockSize
        self.vectors = vectors
        self.sectorSize = sectorSize
    }

    func decrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        try sectors.forEachBatch(of: sectorSize, firstSector: firstSector) { (batch, first) throws(BlockError) in
            if blockSize == 16 {
                try decryptBatch(&batch, firstSector: first, blocks: UInt128.self)
            } else {
                try decryptBatch(&batch, firstSector: first, blocks: UInt64.self)
            }
        }
    }

    /// A chain is encrypted block after block, and none of another sector can mend it: each sector is a chain for the library.
    func encrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        try sectors.forEachBatch(of: sectorSize, firstSector: firstSector) { (batch, first) throws(BlockError) in
            try cipher.transform(&batch, .encrypt, sectorSize: sectorSize, firstSector: first, vectors: vectors)
        }
    }

    /// Decrypts all sectors as one chain, then mends the first block of each.
    ///
    /// CBC adds the ciphertext block before to each decrypted block. The chain adds the last block of the sector before
    /// where the sector's own vector belongs; so take the one out and put the other in.
    private func decryptBatch<Block: FixedWidthInteger & BitwiseCopyable>(
        _ sectors: inout MutableRawSpan, firstSector: UInt64, blocks: Block.Type
    ) throws(BlockError) {
        var vectors = self.vectors.makeBatch(count: sectors.byteCount / sectorSize)
        try self.vectors.fill(&vectors, firstSector: firstSector)
        // Of all vectors but the first: the difference between what the chain adds and what belongs there.
        vectors.withMutableBytes { vectors in
            var sector = sectorSize
            for vector in stride(from: blockSize, to: vectors.byteCount, by: blockSize) {
                vectors.add(sectors.bytes.word(at: sector - blockSize, as: Block.self), at: vector)
                sector += sectorSize
            }
        }
        try cipher.transform(&sectors, .decrypt, unit: sectors.byteCount, vectors: vectors)
        vectors.withMutableBytes { vectors in
            var sector = sectorSize
            for vector in stride(from: blockSize, to: vectors.byteCount, by: blockSize) {
                sectors.add(vectors.bytes.word(at: vector, as: Block.self), at: sector)
                sector += sectorSize
            }
        }
    }
}

extension MutableRawSpan {
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
