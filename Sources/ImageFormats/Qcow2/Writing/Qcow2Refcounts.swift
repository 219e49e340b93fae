// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The reference counts of the clusters of a file: a table, the blocks that it refers to, and the numbers in them.
///
/// Nothing here makes a count more than 1: the writer shares no clusters.
/// Source: qcow2 specification, "Host cluster management".
final class Qcow2Refcounts {
    private let changes: Qcow2TableChanges
    private let clusterBits: UInt64
    private let order: UInt64
    /// In bytes.
    private var tableOffset: UInt64
    private var tableEntryCount: Int
    /// Words of a slice of the table or of a block.
    private let sliceWords: Int

    /// Clusters that a block is about: log2.
    private var blockBits: UInt64 { clusterBits + 3 - order }
    /// Clusters that a slice of a block is about: 64 at least.
    private var sliceClusters: UInt64 { (UInt64(sliceWords) * 64) >> order }
    /// The first cluster for which the table has no place.
    private var coverage: UInt64 { UInt64(tableEntryCount) << blockBits }
    /// Clusters of the table, as the header has it.
    var tableClusters: Range<UInt64> {
        let start = tableOffset >> clusterBits
        return start..<(start + UInt64(tableEntryCount) >> (clusterBits - 3))
    }

    /// - Parameter header: of the file of `changes`.
    init(_ header: Qcow2Header, _ changes: Qcow2TableChanges) {
        self.changes = changes
        clusterBits = UInt64(header.clusterBits)
        order = UInt64(header.refcountOrder)
        tableOffset = header.refcountTableOffset
        tableEntryCount = Int(header.refcountTableClusterCount) << (header.clusterBits - 3)
        sliceWords = header.mapping.sliceWords
    }

    // MARK: Counts

    /// The first clusters in a row with count 0, from `cluster` to the end of its slice.
    ///
    /// - Parameters:
    ///   - limit: how many there are at most.
    ///   - isUsable: whether a cluster with count 0 may be taken.
    /// - Returns: an empty range at the end of the slice when there are none.
    func freeRun(
        from cluster: UInt64, limit: Int, _ isUsable: (UInt64) -> Bool
    ) throws(BlockError) -> Range<UInt64> {
        let end = cluster / sliceClusters * sliceClusters + sliceClusters
        var words: [UInt64]?
        if let slice = try slice(of: cluster) { words = try changes.words(of: slice) }
        func isFree(_ cluster: UInt64) -> Bool { (words.map { count($0, cluster) } ?? 0) == 0 && isUsable(cluster) }
        var start = cluster
        while start < end, !isFree(start) { start += 1 }
        var stop = start
        while stop < end, stop - start < UInt64(limit), isFree(stop) { stop += 1 }
        return start..<stop
    }

    /// Is there a block for a cluster, so that its count can be changed?
    func hasBlock(_ cluster: UInt64) throws(BlockError) -> Bool { try slice(of: cluster) != nil }

    /// Makes counts 1 that are 0, all in one slice.
    func take(_ clusters: Range<UInt64>) throws(BlockError) {
        guard let slice = try slice(of: clusters.lowerBound) else { return }
        try changes.change(slice, .contents) { words in
            for cluster in clusters { set(1, in: &words, cluster) }
        }
    }

    /// Makes counts one less, from the first cluster to the end of its slice; what is 0 stays so.
    ///
    /// - Returns: how many clusters that were, and those among them whose count is 0 now and was not.
    func release(_ clusters: Range<UInt64>) throws(BlockError) -> (done: Int, freed: [Range<UInt64>]) {
        let end = min(clusters.upperBound, clusters.lowerBound / sliceClusters * sliceClusters + sliceClusters)
        let part = clusters.lowerBound..<end
        guard let slice = try slice(of: part.lowerBound) else { return (part.count, []) }
        var freed: [Range<UInt64>] = []
        try changes.change(slice, .contents) { words in
            for cluster in part {
                let count = self.count(words, cluster)
                guard count > 0 else { continue }
                set(count - 1, in: &words, cluster)
                guard count == 1 else { continue }
                if let last = freed.last, last.upperBound == cluster {
                    freed[freed.count - 1] = last.lowerBound..<(cluster + 1)
                } else {
                    freed.append(cluster..<(cluster + 1))
                }
            }
        }
        return (part.count, freed)
    }

    /// Where the number of a cluster is in the words of its slice: the word, and how far it is to be shifted.
    ///
    /// Numbers are big-endian; those smaller than a byte are counted from its low bits.
    private func place(_ cluster: UInt64) -> (word: Int, shift: UInt64) {
        let bit = (cluster % sliceClusters) << order
        let inWord = bit % 64
        let shift = order >= 3 ? 64 - (1 << order) - inWord : 56 - inWord / 8 * 8 + inWord % 8
        return (Int(bit / 64), shift)
    }

    private var mask: UInt64 { order == 6 ? .max : (1 << (1 << order)) - 1 }

    private func count(_ words: [UInt64], _ cluster: UInt64) -> UInt64 {
        let place = self.place(cluster)
        return words[place.word] >> place.shift & mask
    }

    private func set(_ count: UInt64, in words: inout [UInt64], _ cluster: UInt64) {
        let place = self.place(cluster)
        words[place.word] = words[place.word] & ~(mask << place.shift) | count << place.shift
    }

    // MARK: Blocks

    /// The slice of a block that has the count of a cluster; nil when there is no block.
    private func slice(of cluster: UInt64) throws(BlockError) -> ImageCache.Key? {
        guard cluster < coverage else { return nil }
        let entry = tableSlice(of: cluster)
        let block = try changes.words(of: entry.key)[entry.index]
        guard block != 0 else { return nil }
        let clusterSize: UInt64 = 1 << clusterBits
        guard block % clusterSize == 0, ByteRange(offset: block, length: clusterSize)?.fits(changes.file.size) ?? false
        else {
            throw .damaged(
                "qcow2: entry \(cluster >> blockBits) of the refcount table points to byte \(block), where no block can be"
            )
        }
        let inBlock = (cluster & ((1 << blockBits) - 1)) / sliceClusters
        return changes.share.key(block + inBlock * UInt64(sliceWords) * 8, sliceWords)
    }

    private func tableSlice(of cluster: UInt64) -> (key: ImageCache.Key, index: Int) {
        let index = Int(cluster >> blockBits)
        let start = index / sliceWords * sliceWords
        return (changes.share.key(tableOffset + UInt64(start) * 8, sliceWords), index - start)
    }

    /// Makes a block for the counts of a cluster and its neighbours, in the first of these clusters; makes the table longer
    /// when it has no place for it.
    ///
    /// - Parameter claim: makes clusters a part of the file, in which nothing else is written.
    /// - Returns: clusters that held the table before, if it has moved; their counts are still 1.
    func addBlock(
        for cluster: UInt64, _ claim: (Range<UInt64>) throws(BlockError) -> Void
    ) throws(BlockError) -> Range<UInt64> {
        guard cluster < coverage else { return try moveTable(claim) }
        let first = cluster & ~((1 << blockBits) - 1)
        guard first > 0 else {
            throw .damaged("qcow2: the refcount table has no block for the first clusters of the file")
        }
        try claim(first..<(first + 1))
        try writeBlock(at: first, inUse: 1)
        let entry = tableSlice(of: cluster)
        try changes.change(entry.key, .index) { $0[entry.index] = first << clusterBits }
        return 0..<0
    }

    /// Writes a block with 1 for its first clusters and 0 for the others.
    private func writeBlock(at cluster: UInt64, inUse count: UInt64) throws(BlockError) {
        var words = [UInt64](repeating: 0, count: 1 << (clusterBits - 3))
        for cluster in 0..<count {
            let slice = Int(cluster / sliceClusters) * sliceWords
            let place = self.place(cluster)
            words[slice + place.word] |= 1 << place.shift
        }
        try changes.file.writeEntries(words, at: cluster << clusterBits)
    }

    /// Writes a longer table behind the clusters that the present one is about, with the blocks that tell of itself and of
    /// them, and has the header refer to it.
    ///
    /// All of that is on disk when this returns. After an error, the same is done again the next time.
    private func moveTable(
        _ claim: (Range<UInt64>) throws(BlockError) -> Void
    ) throws(BlockError) -> Range<UInt64> {
        try changes.writeAll()
        let perCluster = 1 << (clusterBits - 3)
        let maximumCount = Int(Qcow2Header.maximumRefcountTableSize) / 8
        let start = coverage
        let perBlock = 1 << blockBits
        // Each block added may need another cluster, of which a block must tell: it takes a few steps.
        var (entryCount, blockCount) = (0, 1)
        while true {
            let needed = max(2 * tableEntryCount, tableEntryCount + blockCount + 1)
            entryCount = min((needed + perCluster - 1) / perCluster * perCluster, maximumCount)
            let clusterCount = entryCount / perCluster + blockCount
            guard clusterCount > blockCount * perBlock else { break }
            blockCount = (clusterCount + perBlock - 1) / perBlock
        }
        guard entryCount >= tableEntryCount + blockCount else {
            throw .noSpace("qcow2: the refcount table has \(maximumCount) entries, and cannot have more")
        }
        let clusterCount = UInt64(blockCount + entryCount / perCluster)
        try claim(start..<(start + clusterCount))
        for index in 0..<UInt64(blockCount) {
            let told = clusterCount - min(clusterCount, index << blockBits)
            try writeBlock(at: start + index, inUse: min(told, UInt64(perBlock)))
        }
        let old = tableClusters
        var words = try changes.file.readEntries(count: tableEntryCount, at: tableOffset, .mayBlock)
        words += (0..<UInt64(blockCount)).map { (start + $0) << clusterBits }
        words += [UInt64](repeating: 0, count: entryCount - words.count)
        let place = (start + UInt64(blockCount)) << clusterBits
        try changes.file.writeEntries(words, at: place)
        try changes.file.flush()
        try Qcow2HeaderChange.setRefcountTable(
            at: place, clusterCount: UInt32(entryCount / perCluster), in: changes.file)
        try changes.file.flush()
        (tableOffset, tableEntryCount) = (place, entryCount)
        return old
    }
}
