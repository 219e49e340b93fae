// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Finds all clusters that hold metadata of an image that is to be written to, and sees to it that what is changed there
/// shares no cluster with anything else.
///
/// L1 tables, the refcount table and tables of bitmaps are read; no L2 table is. What lies behind the end of the file counts,
/// too: it would be there when the file has grown.
struct Qcow2MetadataSurvey {
    /// What does not move while the image is open.
    private(set) var fixed = ClusterRuns()
    /// L2 tables of the active disk, the refcount table and its blocks.
    private(set) var tables = ClusterRuns()

    private let file: any BlockDevice
    private let header: Qcow2Header
    private let limits: Limits
    private var bytesLeft: UInt64

    /// What a survey may use.
    struct Limits {
        /// Runs of clusters of each sort.
        var runCount = Qcow2MetadataClusters.maximumRunCount
        /// Tables that are read, in bytes.
        var tableBytes: UInt64 = 1 << 30
    }

    /// Places in tables have 56 bits.
    private static let maximumPlace: UInt64 = 1 << 56
    /// Words of tables that are read at a time.
    private static let pieceWords = 8192

    /// - Parameter header: as the file has it.
    /// - Throws: ``FormatError``: `damaged` when tables overlap, or those of snapshots cannot be found; `unsupported` when there
    ///   is more than the limits allow.
    init(_ file: any BlockDevice, _ header: Qcow2Header, _ limits: Limits = Limits()) throws(FormatError) {
        self.file = file
        self.header = header
        self.limits = limits
        bytesLeft = limits.tableBytes
        let snapshots = try Qcow2Snapshot.table(of: file, header)
        // What may be in two tables at once is never changed where it is.
        var (areas, kept) = (Found(), Found())
        try addAreas(to: &areas, snapshotTableLength: snapshots.length)
        try addBitmaps(directoryTo: &areas, to: &kept)
        for snapshot in snapshots.snapshots { try addSnapshot(snapshot.mapping, to: &kept) }
        // An L2 table without the flag is copied before it is changed: a snapshot may have it.
        var (own, shared) = (Found(), Found())
        try addRefcounts(to: &own)
        try forEachEntry(of: header.mapping.l1Table) { (walk, word) throws(FormatError) in
            guard let table = walk.l2Table(word) else { return }
            if word & Qcow2Entry.copiedFlag != 0 {
                try walk.add(table, to: &own)
            } else {
                try walk.add(table, to: &shared)
            }
        }
        let changed = ClusterRuns(areas.runs + own.runs)
        let all = areas.runs + own.runs + shared.runs
        if let cluster = Self.firstOverlap(all) ?? changed.first(in: ClusterRuns(kept.runs)) {
            throw .damaged(
                "qcow2: the cluster", at: cluster * header.clusterSize, found: "two tables of the image in it",
                allowed: "one",
                advice:
                    "the image is damaged, and writing to it would destroy more: \(remedy: .auditImage) says what is "
                    + "wrong; open it read-only and copy what is left")
        }
        fixed = ClusterRuns(areas.runs + kept.runs)
        tables = ClusterRuns(own.runs + shared.runs)
    }

    private static func firstOverlap(_ runs: [Range<UInt64>]) -> UInt64? {
        let sorted = runs.sorted { $0.lowerBound < $1.lowerBound }
        return zip(sorted, sorted.dropFirst()).first { $1.lowerBound < $0.upperBound }?.1.lowerBound
    }

    // MARK: What is found

    /// Runs of clusters in the order in which they are found.
    private struct Found {
        var runs: [Range<UInt64>] = []
    }

    private func add(_ area: ByteRange?, to found: inout Found) throws(FormatError) {
        guard let area, area.length > 0, area.end <= Self.maximumPlace else { return }
        let size = header.clusterSize
        let clusters = area.offset / size..<area.end.units(of: size)
        if let last = found.runs.last, last.upperBound == clusters.lowerBound {
            found.runs[found.runs.count - 1] = last.lowerBound..<clusters.upperBound
            return
        }
        guard found.runs.count < limits.runCount else { throw tooMany("in \(limits.runCount) places of the file") }
        found.runs.append(clusters)
    }

    private func tooMany(_ what: String) -> FormatError {
        let convert = QEMUImageCommand.text(
            "qemu-img convert -O qcow2 -o cluster_size=2M", "NEW-IMAGE", isEncrypted: header.encryption != .none)
        return .unsupported(
            "the image has tables \(what) and more, which are too many to guard while it is written to; open it read-only, or "
                + "make another one with larger clusters: \(convert)")
    }

    /// Calls `body` for each word of a table that is not 0, as far as it lies in the file.
    private mutating func forEachEntry(
        of table: ByteRange?, _ body: (inout Self, UInt64) throws(FormatError) -> Void
    ) throws(FormatError) {
        guard let table, table.offset < file.size else { return }
        let end = min(table.end, file.size)
        var place = table.offset
        while place + 8 <= end {
            let count = Int(min(UInt64(Self.pieceWords), (end - place) / 8))
            guard bytesLeft >= UInt64(count) * 8 else { throw tooMany("of \(limits.tableBytes) bytes") }
            bytesLeft -= UInt64(count) * 8
            let words: [UInt64]
            do { words = try file.readEntries(count: count, at: place, .mayBlock) } catch {
                throw .unreadable("\(error)")
            }
            for word in words where word != 0 { try body(&self, word) }
            place += UInt64(count) * 8
        }
    }

    // MARK: Where it is

    private func addAreas(to found: inout Found, snapshotTableLength: UInt64) throws(FormatError) {
        try add(ByteRange(offset: 0, length: header.clusterSize), to: &found)
        try add(header.mapping.l1Table, to: &found)
        try add(ByteRange(offset: header.snapshotTableOffset, length: snapshotTableLength), to: &found)
        if let luks = header.extensions.luksHeader {
            try add(ByteRange(offset: luks.offset, length: luks.length), to: &found)
        }
    }

    private mutating func addRefcounts(to found: inout Found) throws(FormatError) {
        let size = header.clusterSize
        let table = ByteRange(
            offset: header.refcountTableOffset, length: UInt64(header.refcountTableClusterCount) * size)
        try add(table, to: &found)
        // Those that are not the start of a cluster are refused when they are needed.
        try forEachEntry(of: table) { (walk, word) throws(FormatError) in
            if word % size == 0 { try walk.add(ByteRange(offset: word, length: size), to: &found) }
        }
    }

    private mutating func addSnapshot(_ mapping: Qcow2Mapping, to found: inout Found) throws(FormatError) {
        try add(mapping.l1Table, to: &found)
        try forEachEntry(of: mapping.l1Table) { (walk, word) throws(FormatError) in
            try walk.add(walk.l2Table(word), to: &found)
        }
    }

    private func l2Table(_ entry: UInt64) -> ByteRange? {
        Qcow2Mapping.l2Table(l1Entry: entry).flatMap { ByteRange(offset: $0.bytes, length: header.clusterSize) }
    }

    /// Those that are out of date have no clusters: somebody may have freed them.
    private mutating func addBitmaps(
        directoryTo areas: inout Found, to found: inout Found
    ) throws(FormatError) {
        guard let bitmaps = header.extensions.bitmaps, Qcow2Bitmap.isUpToDate(header) else { return }
        do throws(FormatError) {
            let directory = try Qcow2Bitmap.directory(bitmaps, header, fileSize: file.size)
            try add(directory.range, to: &areas)
            var place = directory.range.offset
            for index in 0..<directory.count {
                let entry = try Qcow2BitmapEntry(file, index, at: place, end: directory.range.end)
                let table = ByteRange(offset: entry.tableOffset, length: UInt64(entry.tableEntryCount) * 8)
                try add(table, to: &found)
                try forEachEntry(of: table) { (walk, word) throws(FormatError) in
                    let offset = word & Qcow2Bitmap.offsetMask
                    guard offset != 0 else { return }
                    try walk.add(ByteRange(offset: offset, length: walk.header.clusterSize), to: &found)
                }
                place += entry.length
            }
        } catch {
            // Those of a directory that makes no sense are given up before the first write.
            guard error.code == .damaged else { throw error }
        }
    }
}

extension Qcow2Mapping {
    /// Where the L1 table is in the file.
    fileprivate var l1Table: ByteRange? { ByteRange(offset: l1TableOffset, length: UInt64(l1EntryCount) * 8) }
}
