// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The blocks of reference counts that an image lacks, and where they are put: behind all that is used, with a longer refcount
/// table where they need one.
struct Qcow2RepairBlocks {
    /// Numbers of the new blocks, in order.
    let blocks: [Int]
    /// Where they are put, in this order: clusters in a row.
    private let clusters: Range<UInt64>
    /// Clusters of the longer table, behind the blocks; 0: the present one has room.
    private let tableClusterCount: UInt64
    private let clusterBits: UInt64

    /// Entries of the longest refcount table.
    static let maximumTableCount = Int(Qcow2Header.maximumRefcountTableSize / 8)

    /// - Parameter end: no cluster from here on is used.
    /// - Throws: ``FormatError/Code/unsupported`` when no refcount table can be long enough.
    init(_ survey: Qcow2RepairSurvey, table: [UInt64], _ header: Qcow2Header) throws(FormatError) {
        clusterBits = UInt64(header.clusterBits)
        let layout = Qcow2RefcountBlock(header)
        let perCluster = 1 << (header.clusterBits - 3)
        var missing = survey.missingBlocks
        var tableClusters = 0
        // New clusters have counts, too, for which blocks may be missing: it takes a few steps.
        while !missing.isEmpty {
            let last = missing.max() ?? 0
            tableClusters = last < table.count ? 0 : last / perCluster + 1
            guard tableClusters * perCluster <= Self.maximumTableCount else {
                throw .unsupported(
                    "the image cannot be repaired: its refcount table would be longer than "
                        + "\(Qcow2Header.maximumRefcountTableSize) bytes")
            }
            let newEnd = survey.end + UInt64(missing.count + tableClusters)
            let needed = (survey.end >> layout.blockBits...(newEnd - 1) >> layout.blockBits).map { Int($0) }
                .filter { $0 >= table.count || table[$0] == 0 }
            guard !missing.isSuperset(of: needed) else { break }
            missing.formUnion(needed)
        }
        blocks = missing.sorted()
        tableClusterCount = UInt64(tableClusters)
        clusters = survey.end..<(survey.end + UInt64(missing.count + tableClusters))
    }

    /// Adds the blocks, all of whose counts are 0 then. Each step is on disk before the next one refers to it.
    ///
    /// - Parameter table: as the file has it.
    func add(to file: any GrowableDevice, table: [UInt64], _ header: Qcow2Header) throws(BlockError) {
        guard !blocks.isEmpty else { return }
        // New bytes are zeros.
        try file.grow(to: clusters.upperBound << clusterBits)
        try file.flush()
        let places = blocks.indices.map { (clusters.lowerBound + UInt64($0)) << clusterBits }
        guard tableClusterCount > 0 else {
            for (block, place) in zip(blocks, places) {
                try file.writeEntries([place], at: header.refcountTableOffset + UInt64(block) * 8)
            }
            return try file.flush()
        }
        var words = table + [UInt64](repeating: 0, count: Int(tableClusterCount << (clusterBits - 3)) - table.count)
        for (block, place) in zip(blocks, places) { words[block] = place }
        let place = (clusters.upperBound - tableClusterCount) << clusterBits
        try file.writeEntries(words, at: place)
        try file.flush()
        try Qcow2HeaderChange.setRefcountTable(at: place, clusterCount: UInt32(tableClusterCount), in: file)
        try file.flush()
    }
}
