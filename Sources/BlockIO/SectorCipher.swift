// SPDX-License-Identifier: Apache-2.0

/// Decrypts and encrypts runs of sectors. The layer that owns the data decides which offset numbers them.
///
/// Any number of threads may call one cipher at the same time.
public protocol SectorCipher: Sendable {
    /// The encryption unit in bytes; a power of two.
    var sectorSize: Int { get }

    /// Decrypts whole sectors in place.
    ///
    /// - Parameters:
    ///   - sectors: a multiple of `sectorSize` bytes of ciphertext; plaintext afterwards.
    ///   - firstSector: the number of the first sector, counted in units of 512 bytes whatever `sectorSize` is, as
    ///     dm-crypt does for LUKS.
    /// - Throws: ``BlockError`` when the cryptographic library fails.
    func decrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError)

    /// Encrypts whole sectors in place: what ``decrypt(_:firstSector:)`` with the same number undoes.
    ///
    /// - Parameters:
    ///   - sectors: a multiple of `sectorSize` bytes of plaintext; ciphertext afterwards, and nothing of use when this throws.
    ///   - firstSector: the number of the first sector, in units of 512 bytes.
    /// - Throws: ``BlockError`` when the cryptographic library fails.
    func encrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError)
}
