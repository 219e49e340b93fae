// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// A block cipher in a mode, with its key, as a library has it; any number of threads may use one at the same time.
///
/// Each goes both ways. A library that wants a key schedule of its own for the second gets it when somebody first goes
/// that way, so that whoever only reads does not pay for it.
protocol LibraryCipher: Sendable {
    /// Transforms `bytes` in place as units of `unit` bytes, each with an initialization vector of its own.
    ///
    /// - Parameters:
    ///   - bytes: a whole number of units.
    ///   - direction: which way.
    ///   - unit: a whole number of cipher blocks.
    ///   - vectors: as many as there are units, at least; none for a mode without vectors.
    /// - Throws: ``BlockError`` when the library fails.
    func transform(
        _ bytes: inout MutableRawSpan, _ direction: CipherDirection, unit: Int, vectors: borrowing VectorBatch
    ) throws(BlockError)
}

extension LibraryCipher {
    /// Transforms sectors in place, ``VectorBatch/capacity`` at most, each with its own vector.
    ///
    /// - Parameter firstSector: in units of 512 bytes.
    func transform(
        _ sectors: inout MutableRawSpan, _ direction: CipherDirection, sectorSize: Int, firstSector: UInt64,
        vectors: SectorIV
    ) throws(BlockError) {
        var batch = vectors.makeBatch(count: sectors.byteCount / sectorSize)
        try vectors.fill(&batch, firstSector: firstSector)
        try transform(&sectors, direction, unit: sectorSize, vectors: batch)
    }
}

/// What a ``LibraryCipher`` does.
enum CipherDirection: Sendable {
    case decrypt
    case encrypt
}
