// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// A block cipher in a mode, with its key, as a library has it; any number of threads may use one at the same time.
protocol LibraryCipher: Sendable {
    /// Transforms `bytes` in place as units of `unit` bytes, each with an initialization vector of its own.
    ///
    /// - Parameters:
    ///   - bytes: a whole number of units.
    ///   - unit: a whole number of cipher blocks.
    ///   - vectors: as many as there are units, at least; none for a mode without vectors.
    /// - Throws: ``BlockError`` when the library fails.
    func transform(_ bytes: inout MutableRawSpan, unit: Int, vectors: borrowing VectorBatch) throws(BlockError)
}

/// What a ``LibraryCipher`` does.
enum CipherDirection: Sendable {
    case decrypt
    case encrypt
}
