// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Stands for a cipher whose key is not known: where the sectors lie can be told, what they hold cannot.
public struct SealedCipher: SectorCipher {
    /// In bytes.
    public let sectorSize: Int

    /// - Parameter sectorSize: in bytes; a power of two.
    public init(sectorSize: Int = 512) { self.sectorSize = sectorSize }

    /// Always throws.
    public func decrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        throw .inputOutput("sector \(firstSector) is encrypted, and its key is not known")
    }

    /// Always throws.
    public func encrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) throws(BlockError) {
        throw .inputOutput("sector \(firstSector) is encrypted, and its key is not known")
    }
}
