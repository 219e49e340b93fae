// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The L2 tables of the active disk, which are made or copied when they are about to be changed.
///
/// One thread at a time uses it: see ``Qcow2Metadata``.
final class Qcow2L2Tables {
    private let tables: MappedTables<Qcow2Mapping>
    private let changes: Qcow2TableChanges
    private let allocator: Qcow2Allocator

    init(
        _ tables: MappedTables<Qcow2Mapping>, _ changes: Qcow2TableChanges, _ allocator: Qcow2Allocator
    ) {
        self.tables = tables
        self.changes = changes
        self.allocator = allocator
    }

    /// The L2 table of `guest`, which may be changed: no snapshot shares it.
    /// - Throws: ``BlockError``; the tables are as they were then.
    func table(for guest: GuestOffset) throws(BlockError) -> HostOffset {
        let l1 = tables.l1Slice(tables.l1Index(guest))
        let entry = try changes.words(of: l1.key)[l1.index]
        let old = Qcow2Mapping.l2Table(l1Entry: entry)
        if let old {
            try check(old, guest)
            if entry & Qcow2Entry.copiedFlag != 0 { return old }
        }
        let clusterSize = tables.mapping.clusterSize
        let run = try allocator.allocateTable()
        let table = HostOffset(run.clusters.lowerBound * clusterSize)
        do throws(BlockError) {
            let words =
                if let old {
                    try changes.tableWords(tables, old)
                } else { [UInt64](repeating: 0, count: Int(clusterSize / 8)) }
            try changes.file.writeEntries(words, at: table.bytes)
            try changes.change(l1.key, .references) { $0[l1.index] = table.bytes | Qcow2Entry.copiedFlag }
        } catch {
            allocator.abandonTable(run.clusters)
            throw error
        }
        changes.add(newTable: table)
        if let old {
            let cluster = old.bytes / clusterSize
            allocator.free(cluster..<(cluster + 1), .table)
        }
        return table
    }

    private func check(_ table: HostOffset, _ guest: GuestOffset) throws(BlockError) {
        guard let fault = tables.mapping.tableFault(table, fileSize: changes.file.size) else { return }
        throw .damaged("qcow2: guest offset \(guest.bytes): its L1 entry points to an L2 table \(fault)")
    }

    /// Replaces entries in a row, all in one slice of a table, at once.
    ///
    /// - Parameters:
    ///   - states: of the clusters from that of `guest` on.
    ///   - table: as ``table(for:)`` gave it.
    /// - Throws: ``BlockError``; no entry has been replaced then.
    func set(_ states: [Qcow2ClusterState], at guest: GuestOffset, in table: HostOffset) throws(BlockError) {
        let slice = tables.l2Slice(of: table, guest)
        let mapping = tables.mapping
        try changes.change(slice.key, ofTable: table) { words in
            for (index, state) in states.enumerated() {
                let first = slice.index + index << mapping.entryWordBits
                let entry = state.entry(mapping)
                words[first] = entry.word
                if mapping.hasSubclusters { words[first + 1] = entry.bitmap }
            }
        }
    }
}

extension Qcow2TableChanges {
    /// All words of an L2 table, as they have been changed.
    fileprivate func tableWords(
        _ tables: MappedTables<Qcow2Mapping>, _ table: HostOffset
    ) throws(BlockError) -> [UInt64] {
        let mapping = tables.mapping
        let count = Int(mapping.clusterSize / 8)
        var words: [UInt64] = []
        words.reserveCapacity(count)
        while words.count < count {
            words += try self.words(of: share.key(table.bytes + UInt64(words.count) * 8, mapping.sliceWords))
        }
        return words
    }
}
