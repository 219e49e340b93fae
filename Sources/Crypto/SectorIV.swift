// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// How the initialization vector of a sector follows from its number, as dm-crypt has it.
///
/// Numbers count units of 512 bytes, whatever the sector size is. Source: drivers/md/dm-crypt.c of Linux names and
/// describes them.
struct SectorIV: Sendable {
    private let kind: Kind
    /// The size of a vector in bytes, which is the block size of the cipher.
    private let size: Int
    private let sectorSize: Int

    /// The ways.
    enum Kind: Sendable {
        /// The number modulo 2^32, little-endian.
        case plain
        /// The number, little-endian.
        case plain64
        /// The number, big-endian, at the end.
        case plain64be
        /// Zeros.
        case null
        /// The number of the first cipher block, counted from 1, big-endian, at the end.
        case benbi(shift: Int)
        /// `plain64`, encrypted by this cipher in ECB mode, whose key is a hash of the key.
        case essiv(any LibraryCipher)
        /// A block of zeros, encrypted as data is, with a vector that is the number of the sector's first byte,
        /// little-endian.
        case eboiv(any LibraryCipher)
    }

    init(_ kind: Kind, size: Int, sectorSize: Int) {
        self.kind = kind
        self.size = size
        self.sectorSize = sectorSize
    }

    /// Vectors of zeros for `count` sectors, ``VectorBatch/capacity`` at most.
    func makeBatch(count: Int) -> VectorBatch { VectorBatch(size: size, count: count) }

    /// Makes vectors of zeros those of as many sectors.
    /// - Parameter firstSector: in units of 512 bytes. What is more than 64 bits is dropped, as dm-crypt does.
    func fill(_ batch: inout VectorBatch, firstSector: UInt64) throws(BlockError) {
        setNumbers(in: &batch, firstSector)
        switch kind {
        case .plain, .plain64, .plain64be, .null, .benbi: break
        case .essiv(let cipher):
            try batch.withMutableBytes { (bytes) throws(BlockError) in
                try cipher.transform(&bytes, .encrypt, unit: bytes.byteCount, vectors: .none)
            }
        case .eboiv(let cipher):
            var encrypted = VectorBatch(size: size, count: batch.count)
            try encrypted.withMutableBytes { (bytes) throws(BlockError) in
                try cipher.transform(&bytes, .encrypt, unit: size, vectors: batch)
            }
            batch = encrypted
        }
    }

    /// Stores what is made of the numbers before anything is encrypted.
    private func setNumbers(in batch: inout VectorBatch, _ firstSector: UInt64) {
        let step = UInt64(sectorSize / 512)
        switch kind {
        case .plain: batch.setEachFirst(from: firstSector, step) { ($0 & 0xFFFF_FFFF).littleEndian }
        case .plain64, .essiv: batch.setEachFirst(from: firstSector, step) { $0.littleEndian }
        case .plain64be: batch.setEachLast(from: firstSector, step) { $0.bigEndian }
        case .null: break
        case .benbi(let shift):
            let shift = UInt64(shift)
            batch.setEachLast(from: firstSector, step) {
                ($0 << shift).addingReportingOverflow(1).partialValue.bigEndian
            }
        case .eboiv:
            let size = UInt64(sectorSize)
            batch.setEachFirst(from: firstSector, step) {
                $0.multipliedReportingOverflow(by: size).partialValue.littleEndian
            }
        }
    }
}
