// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A cipher for tests and fuzz targets to which it does not matter what is done to the bytes: it inverts them.
public struct InvertingCipher: SectorCipher {
    /// In bytes.
    public let sectorSize = 512

    /// A cipher without a key.
    public init() {}

    /// Inverts whole sectors, whatever their numbers.
    public func decrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) { invert(&sectors) }

    /// Does the same again, which undoes it.
    public func encrypt(_ sectors: inout MutableRawSpan, firstSector: UInt64) { invert(&sectors) }

    private func invert(_ sectors: inout MutableRawSpan) {
        precondition(sectors.byteCount % sectorSize == 0)
        for offset in stride(from: 0, to: sectors.byteCount, by: 8) { sectors.add(UInt64.max, at: offset) }
    }
}
