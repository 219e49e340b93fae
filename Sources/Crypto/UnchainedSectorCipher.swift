// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Sectors in a mode that the library is told of one by one (XTS, CTR), or that knows no sectors (ECB).
final class UnchainedSectorCipher: SectorCipher {
    let sectorSize: Int
    private let cipher: any LibraryCipher
    private let vectors: SectorIV?

    /// - Parameter vectors: nil in ECB mode.
    init(_ cipher: any LibraryCipher, vectors: SectorIV?, sectorSize: Int) {
        self.cipher = cipher
        self.vectors = vectors
        self.sectorSize = sectorSize
    }

    func decrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        try transform(&sectors, .decrypt, firstSector: firstSector)
    }

    func encrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        try transform(&sectors, .encrypt, firstSector: firstSector)
    }

    private func transform(
        _ sectors: inout MutableRawSpan, _ direction: CipherDirection, firstSector: UInt64
    ) throws(BlockError) {
        try sectors.forEachBatch(of: sectorSize, firstSector: firstSector) { (batch, first) throws(BlockError) in
            guard let vectors else {
                return try cipher.transform(&batch, direction, unit: batch.byteCount, vectors: .none)
            }
            try cipher.transform(&batch, direction, sectorSize: sectorSize, firstSector: first, vectors: vectors)
        }
    }
}

/// cipher_null of the kernel: data that was never encrypted.
final class NullSectorCipher: SectorCipher {
    let sectorSize: Int

    init(sectorSize: Int) { self.sectorSize = sectorSize }

    func decrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) {}

    func encrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) {}
}
