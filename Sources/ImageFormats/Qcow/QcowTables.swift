// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Looks up entries of the L1 and L2 tables of a qcow image of version 1.
///
/// Tables are read in slices of at most 4 KiB, and the slices used lately are kept: memory does not grow with the
/// image, and opening a large image costs what opening a small one does. Any thread may call.
final class QcowTables: Sendable {
    /// Entries in a row that one slice holds.
    typealias Slice = [UInt64]

    /// Entries of a slice of the L1 table.
    private static let l1SliceEntries = 512

    private let file: any BlockDevice
    private let header: QcowHeader
    /// Entries of a slice of an L2 table, all of whose slices are of this length.
    private let l2SliceEntries: Int
    private let cache: ImageCache
    private let owner: Int

    init(file: any BlockDevice, header: QcowHeader, cache: ImageCache) {
        self.file = file
        self.header = header
        self.cache = cache
        self.owner = cache.makeOwner()
        self.l2SliceEntries = min(512, 1 << header.l2Bits)
    }

    /// L2 entries from that of a cluster on.
    struct Entries {
        /// Nil when there is no L2 table, nor any for the clusters that follow: all are unallocated.
        let slice: Slice?
        /// Index of the cluster's entry in `slice`.
        let first: Int
        /// How many entries are known, 1 at least: to the end of the slice, or of the missing tables.
        let count: Int
    }

    /// The L2 entries that start with that of `guest`, which lies within the disk.
    func entries(at guest: GuestOffset, _ mode: ReadMode) throws(BlockError) -> Entries {
        let cluster = guest.bytes >> UInt64(header.clusterBits)
        let l1Index = Int(cluster >> UInt64(header.l2Bits))
        let l2Index = Int(cluster & ((1 << UInt64(header.l2Bits)) - 1))
        let l1 = try l1Entries(from: l1Index, mode)
        guard let table = l1.first.flatMap(QcowEntry.l2Table) else {
            let missing = l1.prefix { QcowEntry.l2Table(l1Entry: $0) == nil }.count
            return Entries(slice: nil, first: 0, count: missing << header.l2Bits - l2Index)
        }
        if let fault = tableFault(table) {
            throw .damaged("qcow: guest offset \(guest.bytes): L1 entry \(l1Index) points to an L2 table \(fault)")
        }
        let first = l2Index % l2SliceEntries
        let slice = try slice(at: table.bytes + UInt64(l2Index - first) * 8, count: l2SliceEntries, mode)
        return Entries(slice: slice, first: first, count: l2SliceEntries - first)
    }

    /// The L1 entries from this index to the end of their slice.
    private func l1Entries(from index: Int, _ mode: ReadMode) throws(BlockError) -> ArraySlice<UInt64> {
        let start = index / Self.l1SliceEntries * Self.l1SliceEntries
        let place = header.l1TableOffset + UInt64(start) * 8
        let count = min(Self.l1SliceEntries, header.l1EntryCount - start)
        return try slice(at: place, count: count, mode)[(index - start)...]
    }

    /// Why a whole L2 table cannot be at this place; nil when it can. Any byte may be its first one.
    func tableFault(_ table: HostOffset) -> String? {
        guard let range = ByteRange(offset: table.bytes, length: header.l2TableSize), range.fits(file.size) else {
            return "at byte \(table.bytes), outside the file's \(file.size) bytes"
        }
        return nil
    }

    private func slice(at offset: UInt64, count: Int, _ mode: ReadMode) throws(BlockError) -> Slice {
        try cache.entries(ImageCache.Key(owner: owner, offset: offset, count: count), of: file, mode)
    }
}
