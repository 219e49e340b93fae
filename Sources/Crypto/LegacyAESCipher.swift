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
    private let cipher: CBCSectorCipher

    /// - Parameter key: the 16 key bytes; ``LegacyAESKey`` makes them from a passphrase.
    public init(key: Secret) {
        precondition(key.count == LegacyAESKey.count)
        guard let aes = GcryptCipher("AES", .cbc, key: key) else { fatalError("libgcrypt offers no AES") }
        let vectors = SectorIV(.plain64, size: 16, sectorSize: 512)
        self.cipher = CBCSectorCipher(
            MultiBufferCipher(aes, key: key), blockSize: 16, vectors: vectors, sectorSize: 512)
    }

    /// Sectors are numbered by guest offset.
    public func decrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        try cipher.decrypt(&sectors, firstSector: firstSector)
    }

    /// Sectors are numbered by guest offset.
    public func encrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        try cipher.encrypt(&sectors, firstSector: firstSector)
    }
}
