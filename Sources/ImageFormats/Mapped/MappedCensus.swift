// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Counts the clusters of an image from its tables; reads no data.
public struct MappedCensus: Equatable, Sendable {
    /// Clusters of the guest disk.
    public let clusterCount: UInt64
    /// Clusters with a place in the file, compressed ones among them.
    public private(set) var allocatedCount: UInt64 = 0
    /// Clusters that are stored in compressed form.
    public private(set) var compressedCount: UInt64 = 0
    /// Clusters that are marked as zeros; qcow has no such mark.
    public private(set) var zeroCount: UInt64 = 0
    /// How many entries of the tables cannot be right.
    public private(set) var faultCount: UInt64 = 0
    /// A sentence about the first of them.
    public private(set) var firstFault: String?
    /// False when the image has more tables than are read: the counts are then lower bounds.
    public private(set) var isComplete = true

    /// L2 tables beyond this are not read, in bytes.
    public static let maximumTableBytes: UInt64 = 1 << 30
    /// Words of tables that are read at a time.
    private static let pieceWords = 8192

    /// Where data may be.
    private struct End {
        /// Where the file with the data ends, in bytes.
        let data: UInt64
        /// Then there are whole clusters of data only: see ``MappedImage``.
        let isEncrypted: Bool
    }

    /// Reads the tables of `file`, to which `header` belongs.
    public init(file: any BlockDevice, header: Qcow2Header) throws(BlockError) {
        // Where the data is in a file of its own, whose size is not known here, every offset may be right.
        let dataEnd = header.features.contains(.externalDataFile) ? .max : file.size
        try self.init(
            file, header.mapping, End(data: dataEnd, isEncrypted: header.encryption != .none), Self.maximumTableBytes)
    }

    /// Reads the tables of `file`, to which `header` belongs.
    ///
    /// - Parameter maximumTableBytes: L2 tables beyond this are not read.
    public init(
        file: any BlockDevice, header: QcowHeader, maximumTableBytes: UInt64 = MappedCensus.maximumTableBytes
    ) throws(BlockError) {
        try self.init(
            file, QcowMapping(header), End(data: file.size, isEncrypted: header.encryption != .none), maximumTableBytes)
    }

    private init(
        _ file: any BlockDevice, _ mapping: some ImageMapping, _ end: End, _ maximumTableBytes: UInt64
    ) throws(BlockError) {
        clusterCount =
            mapping.virtualSize.units(of: mapping.clusterSize)
        var tables: [HostOffset] = []
        try Self.forEachL2Table(file, mapping) { (entry, place, table, fault) throws(BlockError) in
            if let fault {
                note("entry \(entry) of the L1 table at byte \(place) points to an L2 table \(fault)")
            } else {
                tables.append(table)
            }
        }
        // A table that is used twice is read once. Where tables may start at any byte, damaged ones overlap: the limit is
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
            guard bytesLeft >= UInt64(mapping.tableWords * 8) else {
                isComplete = false
                return
            }
            bytesLeft -= UInt64(mapping.tableWords * 8)
            try count(table, file, mapping, end)
        }
    }

    /// Refuses an image whose L1 table points to L2 tables that cannot be there: part of the disk would be unreadable.
    ///
    /// - Throws: ``FormatError`` about the first such entry.
    public static func checkL1(file: any BlockDevice, header: Qcow2Header) throws(FormatError) {
        try checkL1(file, header.mapping, allowed: "the start of a cluster within the file")
    }

    /// The same for an image of qcow version 1.
    public static func checkL1(file: any BlockDevice, header: QcowHeader) throws(FormatError) {
        try checkL1(file, QcowMapping(header), allowed: "a table within the file")
    }

    private static func checkL1<Mapping: ImageMapping>(
        _ file: any BlockDevice, _ mapping: Mapping, allowed: String
    ) throws(FormatError) {
        var damage: FormatError?
        do throws(BlockError) {
            try forEachL2Table(file, mapping) { (entry, place, _, fault) throws(BlockError) in
                guard let fault, damage == nil else { return }
                damage = .damaged(
                    "\(Mapping.formatName) L1 table: entry \(entry)", at: place, found: "an L2 table \(fault)",
                    allowed: allowed,
                    advice: "the image is damaged or not complete: get a complete copy, or take what is left of it "
                        + "with \(remedy: .allowDamage)")
            }
        } catch { throw .unreadable(Sentence(error.description)) }
        if let damage { throw damage }
    }

    /// Calls `body` for each L1 entry in use with its index, its place in the file, and what is wrong with it.
    private static func forEachL2Table<Mapping: ImageMapping>(
        _ file: any BlockDevice, _ mapping: Mapping,
        _ body: (Int, UInt64, HostOffset, String?) throws(BlockError) -> Void
    ) throws(BlockError) {
        for start in stride(from: 0, to: mapping.l1EntryCount, by: pieceWords) {
            let count = min(pieceWords, mapping.l1EntryCount - start)
            let place = mapping.l1TableOffset + UInt64(start) * 8
            let entries = try file.readEntries(count: count, at: place, .mayBlock)
            for (index, entry) in entries.enumerated() {
                guard let table = Mapping.l2Table(l1Entry: entry) else { continue }
                try body(
                    start + index, place + UInt64(index) * 8, table, mapping.tableFault(table, fileSize: file.size))
            }
        }
    }

    private mutating func count(
        _ table: HostOffset, _ file: any BlockDevice, _ mapping: some ImageMapping, _ end: End
    ) throws(BlockError) {
        let entryWords = 1 << mapping.entryWordBits
        // Of a cluster with subclusters, those that are stored may all be there.
        let wholeSize = end.isEncrypted && entryWords == 1 ? mapping.clusterSize : 1
        for start in stride(from: 0, to: mapping.tableWords, by: Self.pieceWords) {
            let place = table.bytes + UInt64(start) * 8
            let words = try file.readEntries(
                count: min(Self.pieceWords, mapping.tableWords - start), at: place, .mayBlock)
            for index in stride(from: 0, to: words.count, by: entryWords) {
                guard words[index..<(index + entryWords)].contains(where: { $0 != 0 }) else { continue }
                guard let fault = count(mapping.cluster(in: words, from: index), end.data, wholeSize) else { continue }
                note("the L2 entry at byte \(place + UInt64(index) * 8) \(fault)")
            }
        }
    }

    /// - Parameter wholeSize: so much of a cluster of data has to be there.
    /// - Returns: what is wrong with the entry of `cluster`; nil when nothing is.
    private mutating func count(_ cluster: MappedCluster, _ dataEnd: UInt64, _ wholeSize: UInt64) -> String? {
        switch cluster {
        case .unallocated: return nil
        case .zero(let isReserved):
            zeroCount += 1
            if isReserved { allocatedCount += 1 }
            return nil
        case .data(let host):
            allocatedCount += 1
            guard host.bytes < dataEnd else { return "points to byte \(host.bytes), outside the file" }
            let present = dataEnd - host.bytes
            return present >= wholeSize
                ? nil : "points to byte \(host.bytes): of that encrypted cluster, the file has only \(present) bytes"
        case .compressed(let cluster):
            allocatedCount += 1
            compressedCount += 1
            let start = cluster.offset.bytes
            guard cluster.isExact else { return start < dataEnd ? nil : "points to byte \(start), outside the file" }
            return start + UInt64(cluster.length) <= dataEnd
                ? nil : "points to byte \(start)+\(cluster.length), outside the file"
        case .invalid(let reason): return reason
        }
    }

    private mutating func note(_ fault: String) {
        faultCount += 1
        if firstFault == nil { firstFault = fault }
    }
}

extension ImageMapping {
    /// Words of one L2 table.
    fileprivate var tableWords: Int { 1 << (l2Bits + entryWordBits) }
}
