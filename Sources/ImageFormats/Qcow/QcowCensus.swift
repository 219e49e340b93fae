// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Counts the clusters of a qcow image of version 1 from its tables; reads no data.
public struct QcowCensus: Equatable, Sendable {
    /// Clusters of the guest disk.
    public let clusterCount: UInt64
    /// Clusters with a place in the file, compressed ones among them.
    public private(set) var allocatedCount: UInt64 = 0
    /// Clusters that are stored in compressed form.
    public private(set) var compressedCount: UInt64 = 0
    /// How many entries of the tables cannot be right.
    public private(set) var faultCount: UInt64 = 0
    /// A sentence about the first of them.
    public private(set) var firstFault: String?
    /// False when the image has more tables than are read: the counts are then lower bounds.
    public private(set) var isComplete = true

    /// Entries of the L1 table that are read at a time; an L2 table never has more.
    private static let pieceEntries = 8192

    /// Reads the tables of `file`, to which `header` belongs.
    ///
    /// - Parameter maximumTableBytes: L2 tables beyond this are not read.
    public init(
        file: any BlockDevice, header: QcowHeader, maximumTableBytes: UInt64 = 1 << 30
    ) throws(BlockError) {
        let clusterSize = header.clusterSize
        clusterCount = header.virtualSize / clusterSize + (header.virtualSize % clusterSize == 0 ? 0 : 1)
        var tables: [HostOffset] = []
        try Self.forEachL2Table(file, header) { (entry, place, table, fault) throws(BlockError) in
            if let fault {
                note("entry \(entry) of the L1 table at byte \(place) points to an L2 table \(fault)")
            } else {
                tables.append(table)
            }
        }
        // A table that is used twice is read once. Tables may start at any byte, and damaged ones overlap: the limit is
        // what bounds the work.
        tables.sort { $0.bytes < $1.bytes }
        var previous: HostOffset?
        var bytesLeft = maximumTableBytes
        for table in tables {
            guard table != previous else {
                note("the L2 table at byte \(table.bytes) is used more than once")
                continue
            }
            previous = table
            guard bytesLeft >= header.l2TableSize else {
                isComplete = false
                return
            }
            bytesLeft -= header.l2TableSize
            try count(table, file, header)
        }
    }

    /// Refuses an image whose L1 table points to L2 tables that cannot be there: part of the disk would be unreadable.
    ///
    /// - Throws: ``FormatError`` about the first such entry.
    public static func checkL1(file: any BlockDevice, header: QcowHeader) throws(FormatError) {
        var damage: FormatError?
        do throws(BlockError) {
            try forEachL2Table(file, header) { (entry, place, _, fault) throws(BlockError) in
                guard let fault, damage == nil else { return }
                damage = .damaged(
                    "qcow L1 table: entry \(entry)", at: place, found: "an L2 table \(fault)",
                    allowed: "a table within the file",
                    advice: "the image is damaged or not complete: get a complete copy, or serve what is left of it "
                        + "with --allow-damaged")
            }
        } catch { throw .unreadable(error.description) }
        if let damage { throw damage }
    }

    /// Calls `body` for each L1 entry in use with its index, its place in the file, and what is wrong with it.
    private static func forEachL2Table(
        _ file: any BlockDevice, _ header: QcowHeader,
        _ body: (Int, UInt64, HostOffset, String?) throws(BlockError) -> Void
    ) throws(BlockError) {
        let mapping = QcowMapping(header)
        for start in stride(from: 0, to: header.l1EntryCount, by: pieceEntries) {
            let count = min(pieceEntries, header.l1EntryCount - start)
            let place = header.l1TableOffset + UInt64(start) * 8
            let entries = try file.readEntries(count: count, at: place, .mayBlock)
            for (index, entry) in entries.enumerated() {
                guard let table = QcowEntry.l2Table(l1Entry: entry) else { continue }
                try body(
                    start + index, place + UInt64(index) * 8, table, mapping.tableFault(table, fileSize: file.size))
            }
        }
    }

    private mutating func count(
        _ table: HostOffset, _ file: any BlockDevice, _ header: QcowHeader
    ) throws(BlockError) {
        let entries = try file.readEntries(count: 1 << header.l2Bits, at: table.bytes, .mayBlock)
        for (index, raw) in entries.enumerated() where raw != 0 {
            let cluster = QcowEntry.cluster(l2Entry: raw, clusterBits: header.clusterBits)
            guard let fault = count(cluster, fileSize: file.size) else { continue }
            note("the L2 entry at byte \(table.bytes + UInt64(index) * 8) \(fault)")
        }
    }

    /// - Returns: what is wrong with the entry of `cluster`; nil when nothing is.
    private mutating func count(_ cluster: MappedCluster, fileSize: UInt64) -> String? {
        switch cluster {
        case .unallocated, .zero: return nil
        case .data(let host):
            allocatedCount += 1
            return host.bytes < fileSize ? nil : "points to byte \(host.bytes), outside the file"
        case .compressed(let cluster):
            allocatedCount += 1
            compressedCount += 1
            guard cluster.offset.bytes + UInt64(cluster.length) > fileSize else { return nil }
            return "points to byte \(cluster.offset.bytes)+\(cluster.length), outside the file"
        case .invalid(let reason): return reason
        }
    }

    private mutating func note(_ fault: String) {
        faultCount += 1
        if firstFault == nil { firstFault = fault }
    }
}
