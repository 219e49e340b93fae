// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Counts the clusters of an image from its tables; reads no data.
public struct Qcow2Census: Equatable, Sendable {
    /// Clusters of the guest disk.
    public let clusterCount: UInt64
    /// Clusters with a place in the file, compressed ones among them.
    public private(set) var allocatedCount: UInt64 = 0
    /// Clusters that are stored in compressed form.
    public private(set) var compressedCount: UInt64 = 0
    /// Clusters that are marked as zeros.
    public private(set) var zeroCount: UInt64 = 0
    /// How many entries of the tables cannot be right.
    public private(set) var faultCount: UInt64 = 0
    /// A sentence about the first of them.
    public private(set) var firstFault: String?
    /// False when the image has more tables than are read, 1 GiB: the counts are then lower bounds.
    public private(set) var isComplete = true

    private static let maximumTableBytes: UInt64 = 1 << 30
    /// Entries that are read at a time.
    private static let pieceEntries = 8192

    /// Reads the tables of `file`, to which `header` belongs.
    public init(file: any BlockDevice, header: Qcow2Header) throws(BlockError) {
        clusterCount = header.virtualSize / header.clusterSize + (header.virtualSize % header.clusterSize == 0 ? 0 : 1)
        var tables: [HostOffset] = []
        try Self.forEachL2Table(file, header) { (entry, place, table, fault) throws(BlockError) in
            if let fault {
                note("entry \(entry) of the L1 table at byte \(place) points to an L2 table \(fault)")
            } else {
                tables.append(table)
            }
        }
        // Where the data is in a file of its own, whose size is not known here, every offset may be right.
        let dataEnd = header.features.contains(.externalDataFile) ? .max : file.size
        // A table that is used twice is read once: an image cannot ask for more work than it has bytes.
        tables.sort { $0.bytes < $1.bytes }
        var previous: HostOffset?
        var bytesLeft = Self.maximumTableBytes
        for table in tables {
            guard table != previous else {
                note("the L2 table at byte \(table.bytes) is used more than once")
                continue
            }
            previous = table
            guard bytesLeft >= header.clusterSize else {
                isComplete = false
                return
            }
            bytesLeft -= header.clusterSize
            try count(table, file, header.mapping, dataEnd: dataEnd)
        }
    }

    /// Refuses an image whose L1 table points to L2 tables that cannot be there: part of the disk would be unreadable.
    ///
    /// - Throws: ``FormatError`` about the first such entry.
    public static func checkL1(file: any BlockDevice, header: Qcow2Header) throws(FormatError) {
        var damage: FormatError?
        do throws(BlockError) {
            try forEachL2Table(file, header) { (entry, place, _, fault) throws(BlockError) in
                guard let fault, damage == nil else { return }
                damage = .damaged(
                    "qcow2 L1 table: entry \(entry)", at: place, found: "an L2 table \(fault)",
                    allowed: "the start of a cluster within the file",
                    advice: "the image is damaged or not complete: get a complete copy, or serve what is left of it "
                        + "with --allow-damaged")
            }
        } catch { throw .unreadable(error.description) }
        if let damage { throw damage }
    }

    /// Calls `body` for each L1 entry in use with its index, its place in the file, and what is wrong with it.
    private static func forEachL2Table(
        _ file: any BlockDevice, _ header: Qcow2Header,
        _ body: (Int, UInt64, HostOffset, String?) throws(BlockError) -> Void
    ) throws(BlockError) {
        let mapping = header.mapping
        for start in stride(from: 0, to: header.l1EntryCount, by: pieceEntries) {
            let count = min(pieceEntries, header.l1EntryCount - start)
            let place = header.l1TableOffset + UInt64(start) * 8
            let entries = try file.readEntries(count: count, at: place, .mayBlock)
            for (index, entry) in entries.enumerated() {
                guard let table = Qcow2Entry.l2Table(l1Entry: entry) else { continue }
                try body(
                    start + index, place + UInt64(index) * 8, table, mapping.tableFault(table, fileSize: file.size))
            }
        }
    }

    private mutating func count(
        _ table: HostOffset, _ file: any BlockDevice, _ mapping: Qcow2Mapping, dataEnd: UInt64
    ) throws(BlockError) {
        let wordCount = Int(mapping.clusterSize / 8)
        let entryWords = 1 << mapping.entryWordBits
        for start in stride(from: 0, to: wordCount, by: Self.pieceEntries) {
            let place = table.bytes + UInt64(start) * 8
            let pieceCount = min(Self.pieceEntries, wordCount - start)
            let words = try file.readEntries(count: pieceCount, at: place, .mayBlock)
            for index in stride(from: 0, to: words.count, by: entryWords) {
                let bitmap = mapping.hasSubclusters ? words[index + 1] : 0
                guard words[index] | bitmap != 0 else { continue }
                count(words[index], bitmap, mapping, at: place + UInt64(index) * 8, dataEnd: dataEnd)
            }
        }
    }

    /// Counts one cluster.
    private mutating func count(
        _ word: UInt64, _ bitmap: UInt64, _ mapping: Qcow2Mapping, at place: UInt64, dataEnd: UInt64
    ) {
        switch Qcow2Entry.cluster(l2Entry: word, bitmap: bitmap, mapping) {
        case .unallocated: break
        case .zero(let isReserved):
            zeroCount += 1
            if isReserved { allocatedCount += 1 }
        case .data(let host):
            allocatedCount += 1
            if host.bytes >= dataEnd {
                note("the L2 entry at byte \(place) points to byte \(host.bytes), outside the file")
            }
        case .compressed(let cluster):
            allocatedCount += 1
            compressedCount += 1
            if cluster.offset.bytes >= dataEnd {
                note("the L2 entry at byte \(place) points to byte \(cluster.offset.bytes), outside the file")
            }
        case .invalid(let reason): note("the L2 entry at byte \(place) \(reason)")
        }
    }

    private mutating func note(_ fault: String) {
        faultCount += 1
        if firstFault == nil { firstFault = fault }
    }
}
