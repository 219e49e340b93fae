// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Goes through a disk run by run. What a slice of a table tells is taken from it without looking it up again.
struct MappedRuns<Mapping: ImageMapping> {
    /// The first byte of the disk that no run has had yet.
    private(set) var position: UInt64
    /// What the entries tell ends before this byte.
    private var known: UInt64
    /// The first byte of the cluster that `entries` start with.
    private var start: UInt64
    private var entries: MappedTables<Mapping>.Entries
    private let tables: MappedTables<Mapping>

    /// - Parameter position: a byte of the disk.
    init(of tables: MappedTables<Mapping>, from position: UInt64) {
        self.tables = tables
        self.position = position
        (known, start) = (position, position)
        entries = MappedTables.Entries(words: nil, first: 0, count: 0)
    }

    /// Is the next run told of by a slice that has not been looked up?
    var needsLookUp: Bool { position >= known }

    /// The run that comes next, of `limit` bytes at most; there are as many.
    ///
    /// After an error, the same is asked again.
    mutating func next(limit: UInt64, _ mode: ReadMode) throws(BlockError) -> MappedRun {
        let mapping = tables.mapping
        if needsLookUp {
            entries = try tables.entries(at: GuestOffset(position), mode)
            start = position - position % mapping.clusterSize
            known = start + UInt64(entries.count) << UInt64(mapping.clusterBits)
        }
        let limit = min(limit, known - position)
        var run = MappedRun(cluster: .unallocated, length: limit)
        if let words = entries.words {
            let skipped = Int((position - start) >> UInt64(mapping.clusterBits))
            run = mapping.run(
                in: words, from: entries.first + skipped << mapping.entryWordBits, at: GuestOffset(position),
                limit: limit)
        }
        position += run.length
        return run
    }
}
