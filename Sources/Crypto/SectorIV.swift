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

    /// The vectors of `count` sectors, ``VectorBatch/capacity`` at most.
    /// - Parameter firstSector: in units of 512 bytes. What is more than 64 bits is dropped, as dm-crypt does.
    func vectors(firstSector: UInt64, count: Int) throws(BlockError) -> VectorBatch {
        var batch = VectorBatch(size: size, count: count)
        for index in 0..<count {
            let distance = UInt64(index * (sectorSize / 512))
            let number = firstSector.addingReportingOverflow(distance).partialValue
            switch kind {
            case .plain: batch.setLittleEndian(number & 0xFFFF_FFFF, at: index)
            case .plain64, .essiv: batch.setLittleEndian(number, at: index)
            case .plain64be: batch.setBigEndian(number, at: index)
            case .null: break
            case .benbi(let shift):
                batch.setBigEndian((number << UInt64(shift)).addingReportingOverflow(1).partialValue, at: index)
            case .eboiv:
                let byte = number.multipliedReportingOverflow(by: UInt64(sectorSize)).partialValue
                batch.setLittleEndian(byte, at: index)
            }
        }
        switch kind {
        case .plain, .plain64, .plain64be, .null, .benbi: break
        case .essiv(let cipher):
            try batch.withMutableBytes { (bytes) throws(BlockError) in
                try cipher.transform(&bytes, unit: bytes.byteCount, vectors: nil)
            }
        case .eboiv(let cipher):
            var encrypted = VectorBatch(size: size, count: count)
            try encrypted.withMutableBytes { (bytes) throws(BlockError) in
                try cipher.transform(&bytes, unit: size, vectors: batch)
            }
            batch = encrypted
        }
        return batch
    }
}
