// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Looks up entries of the L1 and L2 tables.
///
/// Tables are read in slices of at most 4 KiB, and the slices used lately are kept: memory does not grow with the
/// image, and opening a large image costs what opening a small one does.
final class Qcow2Tables: Sendable {
    /// Entries in a row that one slice holds.
    typealias Slice = [UInt64]

    private let file: any BlockDevice
    private let mapping: Qcow2Mapping
    private let sliceBytes: Int
    private let cache: ImageCache
    private let owner: Int

    init(file: any BlockDevice, mapping: Qcow2Mapping, cache: ImageCache) {
        self.file = file
        self.mapping = mapping
        self.cache = cache
        self.owner = cache.makeOwner()
        self.sliceBytes = Int(min(4096, mapping.clusterSize))
    }

    /// L2 entries from that of `guest` on.
    struct Entries {
        /// Nil when there is no L2 table, nor any for the clusters that follow: all are unallocated.
        let slice: Slice?
        /// Index of the first word of the entry of `guest` in `slice`.
        let first: Int
        /// How many entries are known: to the end of the slice, or of the missing tables.
        let count: Int
    }

    /// The L2 entries that start with that of `guest`, which lies within the disk.
    func entries(at guest: GuestOffset, _ mode: ReadMode) throws(BlockError) -> Entries {
        let cluster = guest.bytes >> UInt64(mapping.clusterBits)
        let l1Index = Int(cluster >> UInt64(mapping.l2Bits))
        let l2Index = Int(cluster & ((1 << UInt64(mapping.l2Bits)) - 1))
        let l1 = try l1Entries(from: l1Index, mode)
        guard let table = l1.first.flatMap(Qcow2Entry.l2Table) else {
            let missing = l1.prefix { Qcow2Entry.l2Table(l1Entry: $0) == nil }.count
            return Entries(slice: nil, first: 0, count: missing << mapping.l2Bits - l2Index)
        }
        if let fault = tableFault(table) {
            throw .damaged("qcow2: guest offset \(guest.bytes): L1 entry \(l1Index) points to an L2 table \(fault)")
        }
        let perSlice = sliceBytes / (8 << mapping.entryWordBits)
        let first = l2Index % perSlice
        let place = table.bytes + UInt64(l2Index - first) << UInt64(3 + mapping.entryWordBits)
        let slice = try slice(at: place, count: sliceBytes / 8, mode)
        return Entries(slice: slice, first: first << mapping.entryWordBits, count: perSlice - first)
    }

    /// The L1 entries from this index to the end of their slice.
    private func l1Entries(from index: Int, _ mode: ReadMode) throws(BlockError) -> ArraySlice<UInt64> {
        let perSlice = sliceBytes / 8
        let start = index / perSlice * perSlice
        let place = mapping.l1TableOffset + UInt64(start) * 8
        return try slice(at: place, count: min(perSlice, mapping.l1EntryCount - start), mode)[(index - start)...]
    }

    /// Why a whole L2 table cannot be at this place; nil when it can.
    func tableFault(_ table: HostOffset) -> String? {
        if table.bytes % mapping.clusterSize != 0 {
            return "at byte \(table.bytes), which is not the start of a cluster"
        }
        if table.bytes + mapping.clusterSize > file.size {
            return "at byte \(table.bytes), outside the file's \(file.size) bytes"
        }
        return nil
    }

    private func slice(at offset: UInt64, count: Int, _ mode: ReadMode) throws(BlockError) -> Slice {
        try cache.entries(ImageCache.Key(owner: owner, offset: offset, count: count), of: file, mode)
    }
}
