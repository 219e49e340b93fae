// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Gives out clusters of the file that nothing uses, and takes back those that tables give up.
///
/// One thread at a time uses it: see ``Qcow2Metadata``.
final class Qcow2Allocator {
    private let changes: Qcow2TableChanges
    private let refcounts: Qcow2Refcounts
    private let metadata: Qcow2MetadataClusters
    private let epochs: AccessEpochs
    private var freed = Qcow2FreedClusters()
    private let clusterBits: UInt64
    /// No cluster before this one can be given out.
    private var hint: UInt64 = 0
    /// From here on nothing has ever been in the file: it reads as zeros.
    private var freshStart: UInt64

    /// Clusters in a row that have been given out.
    struct Run {
        let clusters: Range<UInt64>
        /// They read as zeros.
        let isFresh: Bool
    }

    /// What one allocation makes the file longer by, at least.
    private static let growth: UInt64 = 1 << 20
    /// Places in L2 entries have 56 bits.
    private static let maximumFileSize: UInt64 = 1 << 56

    init(
        _ header: Qcow2Header, _ changes: Qcow2TableChanges, _ refcounts: Qcow2Refcounts,
        _ metadata: Qcow2MetadataClusters, _ epochs: AccessEpochs
    ) {
        self.changes = changes
        self.refcounts = refcounts
        self.metadata = metadata
        self.epochs = epochs
        clusterBits = UInt64(header.clusterBits)
        freshStart = changes.file.size.units(of: header.clusterSize)
    }

    // MARK: Giving out

    /// Clusters in a row, up to `count` of them; their counts are 1, and the file is long enough.
    /// - Throws: ``BlockError``; nothing has been given out then.
    func allocate(upTo count: Int) throws(BlockError) -> Run {
        try reclaim()
        do { return try take(upTo: count) } catch {
            guard error.code == .noSpace, freed.hasPending else { throw error }
        }
        // What has been given up is room, too.
        try flush()
        return try take(upTo: count)
    }

    /// A cluster for a table, in which nothing else is written from now on.
    /// - Throws: as ``allocate(upTo:)``.
    func allocateTable() throws(BlockError) -> Run {
        let run = try allocate(upTo: 1)
        do { try metadata.add(run.clusters) } catch {
            abandon(run.clusters)
            throw error
        }
        return run
    }

    private func take(upTo count: Int) throws(BlockError) -> Run {
        var cluster = hint
        while true {
            guard cluster < Self.maximumFileSize >> clusterBits else {
                throw .noSpace("qcow2: the file cannot have more clusters")
            }
            let clusters = try refcounts.freeRun(from: cluster, limit: count) { !freed.contains($0) }
            cluster = clusters.lowerBound
            guard !clusters.isEmpty else { continue }
            guard try refcounts.hasBlock(cluster) else {
                try addBlock(for: cluster)
                continue
            }
            try check(clusters)
            try grow(clusters.upperBound << clusterBits)
            try refcounts.take(clusters)
            hint = clusters.upperBound
            let isFresh = cluster >= freshStart
            freshStart = max(freshStart, clusters.upperBound)
            return Run(clusters: clusters, isFresh: isFresh)
        }
    }

    private func addBlock(for cluster: UInt64) throws(BlockError) {
        var claimed: [Range<UInt64>] = []
        do throws(BlockError) {
            let old = try refcounts.addBlock(for: cluster) { (clusters) throws(BlockError) in
                try check(clusters)
                try grow(clusters.upperBound << clusterBits)
                try metadata.add(clusters)
                claimed.append(clusters)
            }
            if !old.isEmpty { freed.add(old, .table, completionCount: changes.completionCount) }
        } catch {
            // The next time, it is these again.
            metadata.remove(claimed)
            throw error
        }
    }

    /// Counts that are too low must not cost the image its tables.
    private func check(_ clusters: Range<UInt64>) throws(BlockError) {
        if let cluster = metadata.first(in: clusters) {
            throw Qcow2MetadataClusters.damage(at: cluster << clusterBits, "the reference count of its cluster is 0")
        }
    }

    private func grow(_ size: UInt64) throws(BlockError) {
        guard size > changes.file.size else { return }
        do {
            try changes.file.grow(to: size.roundedUp(to: Self.growth))
        } catch {
            guard error.code == .noSpace else { throw error }
            // There may be room for less.
            try changes.file.grow(to: size)
        }
    }

    /// Takes back clusters that no table has ever referred to.
    func abandon(_ clusters: Range<UInt64>) {
        freshStart = max(freshStart, clusters.upperBound)
        // One that cannot be taken back is lost, which is no damage.
        guard (try? refcounts.release(clusters)) != nil else { return }
        hint = min(hint, clusters.lowerBound)
    }

    /// Takes back what ``allocateTable()`` has given out, when no table has ever referred to it.
    func abandonTable(_ clusters: Range<UInt64>) {
        metadata.remove([clusters])
        abandon(clusters)
    }

    // MARK: Taking back

    /// Takes back clusters that tables have just given up; they are used again when that is on disk.
    func free(_ clusters: Range<UInt64>, _ kind: Qcow2FreedClusters.Kind) {
        freshStart = max(freshStart, clusters.upperBound)
        freed.add(clusters, kind, completionCount: changes.completionCount)
    }

    /// Called before clusters are given up: brings everything to disk when too many wait for that.
    func makeRoom() throws(BlockError) {
        if freed.isFull { try flush() }
    }

    /// Brings all data and all changes to disk. What has been given up is free in the file then, though perhaps not on disk.
    func flush() throws(BlockError) {
        try changes.writeAll()
        try reclaim()
        try changes.writeContents()
    }

    /// Goes on with what has been given up, as far as that is possible now.
    private func reclaim() throws(BlockError) {
        guard !freed.isEmpty else { return }
        try freed.lowerCounts(completionCount: changes.completionCount, epoch: epochs.current) {
            (clusters, kind) throws(BlockError) in try release(clusters, kind)
        }
        epochs.advance()
        let (runs, isTooShort) = freed.takeUnused(epochs)
        let all = ByteRange(offset: 0, length: changes.file.size)
        let forgotten =
            isTooShort
            ? [all] : runs.filter { $0.kind == .table || $0.kind == .compressed }.map { bytes(of: $0.clusters) }
        if !forgotten.isEmpty { changes.share.forget(forgotten.compactMap(\.self)) }
        for run in runs {
            hint = min(hint, run.clusters.lowerBound)
            // It is no more than a wish.
            if run.kind == .discarded, let range = bytes(of: run.clusters) { try? changes.file.discard(range) }
        }
        if isTooShort { hint = 0 }
    }

    /// Lowers counts, but for those of clusters that were given up twice, and have become tables in between.
    private func release(
        _ clusters: Range<UInt64>, _ kind: Qcow2FreedClusters.Kind
    ) throws(BlockError) -> (done: Int, freed: [Range<UInt64>]) {
        guard kind != .table else {
            let released = try refcounts.release(clusters)
            metadata.remove(released.freed)
            return released
        }
        let table = metadata.first(in: clusters)
        guard table != clusters.lowerBound else { return (1, []) }
        return try refcounts.release(clusters.lowerBound..<(table ?? clusters.upperBound))
    }

    private func bytes(of clusters: Range<UInt64>) -> ByteRange? {
        ByteRange(offset: clusters.lowerBound << clusterBits, length: UInt64(clusters.count) << clusterBits)
    }
}
