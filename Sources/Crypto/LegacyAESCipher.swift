// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The encryption of qcow and of qcow2 with crypt_method 1: AES-128 in CBC mode over sectors of 512 bytes.
///
/// The initialization vector of a sector is its number as a 64-bit little-endian integer followed by eight zero bytes
/// (the field calls it plain64). Numbers count from the start of the *guest* disk.
/// Source: the images themselves; the qcow2 specification says 256 bits, and no image was ever written that way.
public final class LegacyAESCipher: SectorCipher {
    /// 512 bytes, whatever the cluster size.
    public let sectorSize = 512
    private let cipher: OpenSSLCipher
    private static let blockSize = 16
    /// Sectors decrypted by one call: few enough for the first-level cache, enough to make the call's cost vanish.
    private static let batch = 64

    /// - Parameter key: the 16 key bytes; ``LegacyAESKey`` makes them from a passphrase.
    public init(key: Secret) {
        precondition(key.count == LegacyAESKey.count)
        self.cipher = OpenSSLCipher(.aes128CBC, key: key)
    }

    /// Sectors are numbered by guest offset.
    public func decrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        let batchBytes = Self.batch * sectorSize
        for start in stride(from: 0, to: sectors.byteCount, by: batchBytes) {
            let range = start..<min(start + batchBytes, sectors.byteCount)
            try sectors.withSlice(range) { (batch) throws(BlockError) in
                try decryptBatch(&batch, firstSector: firstSector + UInt64(start / sectorSize))
            }
        }
    }

    /// Decrypts all sectors as one CBC chain, then mends the first block of each.
    ///
    /// CBC adds the ciphertext block before to each decrypted block. The chain adds the last block of the sector before
    /// where the sector's own vector belongs; so take the one out and put the other in.
    private func decryptBatch(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        let count = sectors.byteCount / sectorSize
        let starts = stride(from: sectorSize, to: count * sectorSize, by: sectorSize)
        // The difference between what the chain adds at a sector's start and what belongs there.
        var corrections: InlineArray<64, (low: UInt64, high: UInt64)> = .init(repeating: (0, 0))
        for start in starts {
            let sector = start / sectorSize
            let low = sectors.bytes.littleEndianWord(at: start - Self.blockSize) ^ (firstSector + UInt64(sector))
            corrections[sector] = (low, sectors.bytes.littleEndianWord(at: start - Self.blockSize / 2))
        }
        try cipher.decrypt(&sectors, iv: (firstSector, 0))
        for start in starts {
            let correction = corrections[start / sectorSize]
            let low = sectors.bytes.littleEndianWord(at: start) ^ correction.low
            let high = sectors.bytes.littleEndianWord(at: start + 8) ^ correction.high
            sectors.storeBytes(of: low.littleEndian, toByteOffset: start, as: UInt64.self)
            sectors.storeBytes(of: high.littleEndian, toByteOffset: start + 8, as: UInt64.self)
        }
    }
}
