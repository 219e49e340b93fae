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
        let l1Index = l1Index(guest)
        let l2Index = l2Index(guest)
        let l1Slice = l1Slice(l1Index)
        // From this entry to the end of its slice.
        let l1 = try share.words(at: l1Slice.key.offset, count: l1Slice.key.count, mode)[l1Slice.index...]
        guard let table = l1.first.flatMap(Mapping.l2Table) else {
            let missing = l1.prefix { Mapping.l2Table(l1Entry: $0) == nil }.count
            return Entries(words: nil, first: 0, count: missing << mapping.l2Bits - l2Index)
        }
        if let fault = mapping.tableFault(table, fileSize: share.file.size) {
            throw .damaged(
                "\(Mapping.formatName): guest offset \(guest.bytes): L1 entry \(l1Index) points to an L2 table \(fault)"
            )
        }
        let slice = l2Slice(of: table, guest)
        let words = try share.words(at: slice.key.offset, count: slice.key.count, mode)
        return Entries(
            words: words, first: slice.index, count: (mapping.sliceWords - slice.index) >> mapping.entryWordBits)
    }

    /// The slice that has this L1 entry, and its index in that.
    func l1Slice(_ index: Int) -> (key: ImageCache.Key, index: Int) {
        let start = index / mapping.sliceWords * mapping.sliceWords
        let count = min(mapping.sliceWords, mapping.l1EntryCount - start)
        return (share.key(mapping.l1TableOffset + UInt64(start) * 8, count), index - start)
    }

    /// The slice of an L2 table that has the entry of `guest`, and the index of its first word in that.
    func l2Slice(of table: HostOffset, _ guest: GuestOffset) -> (key: ImageCache.Key, index: Int) {
        let words = l2Index(guest) << mapping.entryWordBits
        let start = words / mapping.sliceWords * mapping.sliceWords
        return (share.key(table.bytes + UInt64(start) * 8, mapping.sliceWords), words - start)
    }

    /// Which L1 entry leads to `guest`.
    func l1Index(_ guest: GuestOffset) -> Int {
        Int(guest.bytes >> UInt64(mapping.clusterBits + mapping.l2Bits))
    }

    /// Which entry of its L2 table `guest` has.
    func l2Index(_ guest: GuestOffset) -> Int {
        Int(guest.bytes >> UInt64(mapping.clusterBits) & ((1 << UInt64(mapping.l2Bits)) - 1))
    }
}
