// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Changes tables of an image that is written to, and brings the changes to disk in an order that a power failure cannot turn
/// into damage.
///
/// One thread at a time uses it: see ``Qcow2Metadata``.
final class Qcow2TableChanges {
    /// Holds the tables.
    let file: any GrowableDevice
    private let dataFile: any BlockDevice
    /// Of `file`.
    let share: CacheShare
    /// How often all changes there were have reached the disk.
    private(set) var completionCount: UInt64 = 0
    /// Places of L2 tables to which nothing on disk refers.
    private var newTables: Set<UInt64> = []

    /// - Parameter dataFile: holds the clusters; `file` itself when there is no data file.
    init(_ share: CacheShare, file: any GrowableDevice, dataFile: any BlockDevice) {
        self.share = share
        self.file = file
        self.dataFile = dataFile
    }

    /// The words of a slice.
    func words(of slice: ImageCache.Key) throws(BlockError) -> [UInt64] {
        try share.words(at: slice.offset, count: slice.count, .mayBlock)
    }

    /// Changes words of a slice. When there is no room for another one, all changes are brought to disk before.
    ///
    /// - Throws: ``BlockError`` of the file; the slice has not been changed then.
    func change(
        _ slice: ImageCache.Key, _ step: ChangedSlices.Step, _ body: (inout [UInt64]) -> Void
    ) throws(BlockError) {
        if !share.canChange(slice) { try writeAll() }
        var words = try words(of: slice)
        body(&words)
        share.change(slice, to: words, step)
    }

    /// Changes entries of an L2 table. One to which nothing on disk refers may be on disk before what it refers to.
    /// - Throws: as ``change(_:_:_:)``.
    func change(
        _ slice: ImageCache.Key, ofTable table: HostOffset, _ body: (inout [UInt64]) -> Void
    ) throws(BlockError) {
        if !share.canChange(slice) { try writeAll() }
        try change(slice, newTables.contains(table.bytes) ? .contents : .references, body)
    }

    /// A table has been written at this place, to which nothing on disk refers yet.
    func add(newTable: HostOffset) { newTables.insert(newTable.bytes) }

    /// Brings all data and all changes to disk: one flush for what nothing refers to, one for what refers to it, and one
    /// between if there are new blocks of reference counts.
    ///
    /// - Throws: ``BlockError``. What is not known to be on disk is written again the next time.
    func writeAll() throws(BlockError) {
        for step in ChangedSlices.Step.allCases {
            let slices = try share.write(step)
            guard step == .contents || !slices.isEmpty else { continue }
            if step == .contents, dataFile !== file { try dataFile.flush() }
            try file.flush()
            share.settle(slices)
            // An entry that refers to them may be on disk as soon as it is written, also if its flush fails.
            if step == .contents { newTables.removeAll() }
        }
        completionCount += 1
    }

    /// Has the file what may be on disk at any time; nothing is flushed.
    func writeContents() throws(BlockError) { _ = try share.write(.contents) }
}
