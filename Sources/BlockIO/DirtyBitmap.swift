// SPDX-License-Identifier: Apache-2.0

/// Which parts of a disk have changed since some point in time: what incremental backups go by.
///
/// Any number of threads may ask at the same time.
public protocol DirtyBitmap: AnyObject, Sendable {
    /// As the image has it; not empty.
    var name: String { get }

    /// Has the disk changed at `offset`, and how far is that so?
    ///
    /// - Parameters:
    ///   - offset: in bytes, within the disk.
    ///   - limit: the answer covers at most this many bytes; more than 0.
    ///   - mode: when its budget is spent, the answer is shorter.
    /// - Returns: a length that is not 0. What follows may be the same.
    func run(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> (isDirty: Bool, length: UInt64)
}

extension DirtyBitmap {
    /// The same, whatever it takes to find out.
    public func run(at offset: UInt64, limit: UInt64) throws(BlockError) -> (isDirty: Bool, length: UInt64) {
        try run(at: offset, limit: limit, .mayBlock)
    }
}
