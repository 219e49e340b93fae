// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Looks up entries of the L1 and L2 tables of an image.
///
/// Tables are read in slices of at most 4 KiB, and the slices used lately are kept: memory does not grow with the
/// image, and opening a large image costs what opening a small one does. Any thread may call.
struct MappedTables<Mapping: ImageMapping>: Sendable {
    /// How the tables are to be read.
    let mapping: Mapping
    private let share: CacheShare

    /// - Parameter share: of the file that holds the tables.
    init(_ mapping: Mapping, _ share: CacheShare) {
        self.mapping = mapping
        self.share = share
    }

    /// L2 entries in a row.
    struct Entries {
        /// Nil when there is no L2 table, nor any for the clusters that follow: all are unallocated.
        let words: [UInt64]?
        /// Index in `words` of the first word of the first entry.
        let first: Int
        /// How many entries are known, 1 at least: to the end of the slice, or of the missing tables.
        let count: Int
    }

    /// The L2 entries that start with that of `guest`, which lies within the disk.
    func entries(at guest: GuestOffset, _ mode: ReadMode) throws(BlockError) -> Entries {
        let cluster = guest.bytes >> UInt64(mapping.clusterBits)
        let l1Index = Int(cluster >> UInt64(mapping.l2Bits))
        let l2Index = Int(cluster & ((1 << UInt64(mapping.l2Bits)) - 1))
        let l1 = try l1Entries(from: l1Index, mode)
        guard let table = l1.first.flatMap(Mapping.l2Table) else {
            let missing = l1.prefix { Mapping.l2Table(l1Entry: $0) == nil }.count
            return Entries(words: nil, first: 0, count: missing << mapping.l2Bits - l2Index)
        }
        if let fault = mapping.tableFault(table, fileSize: share.file.size) {
            throw .damaged(
                "\(Mapping.formatName): guest offset \(guest.bytes): L1 entry \(l1Index) points to an L2 table \(fault)"
            )
        }
        let perSlice = mapping.sliceWords >> mapping.entryWordBits
        let first = l2Index % perSlice
        let place = table.bytes + UInt64(l2Index - first) << UInt64(3 + mapping.entryWordBits)
        let words = try share.words(at: place, count: mapping.sliceWords, mode)
        return Entries(words: words, first: first << mapping.entryWordBits, count: perSlice - first)
    }

    /// The L1 entries from this index to the end of their slice.
    private func l1Entries(from index: Int, _ mode: ReadMode) throws(BlockError) -> ArraySlice<UInt64> {
        let start = index / mapping.sliceWords * mapping.sliceWords
        let place = mapping.l1TableOffset + UInt64(start) * 8
        let count = min(mapping.sliceWords, mapping.l1EntryCount - start)
        return try share.words(at: place, count: count, mode)[(index - start)...]
    }
}
