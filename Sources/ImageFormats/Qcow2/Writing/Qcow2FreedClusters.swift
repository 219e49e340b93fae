// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Clusters that tables have given up, on their way to be used again.
///
/// First they wait until the tables that gave them up are on disk: only then their reference counts are lowered. Those whose
/// count is 0 then wait until nobody is left who may still read or write there.
struct Qcow2FreedClusters {
    /// What a cluster was.
    enum Kind {
        /// Data that something has taken the place of.
        case data
        /// Data whose owner has given it up: its space goes back to the file system.
        case discarded
        /// Compressed data: what it unpacks to may be kept in memory.
        case compressed
        /// A table: slices of it may be kept in memory.
        case table
    }

    /// Clusters in a row.
    struct Run {
        var clusters: Range<UInt64>
        let kind: Kind
        /// While it waits for tables: how often all had been written when it was given up. Then the epoch from which on
        /// nobody finds it.
        let time: UInt64
    }

    /// Waiting for tables, in the order in which they came.
    private var pending: [Run] = []
    /// Waiting for readers, in the order of their places; none overlaps another.
    private var unused: [Run] = []
    /// Clusters before this one may be among those of which the list was too long.
    private var forgottenEnd: UInt64 = 0
    private var forgottenTime: UInt64 = 0

    private static let maximumPendingCount = 16 << 10
    private static let maximumUnusedCount = 64 << 10

    /// So many wait for tables that these should be written.
    var isFull: Bool { pending.count >= Self.maximumPendingCount }
    /// Does anything wait for tables?
    var hasPending: Bool { !pending.isEmpty }
    /// Does anything wait at all?
    var isEmpty: Bool { pending.isEmpty && unused.isEmpty && forgottenEnd == 0 }

    /// Adds clusters that tables in memory do not refer to any more.
    mutating func add(_ clusters: Range<UInt64>, _ kind: Kind, completionCount: UInt64) {
        if let last = pending.last, last.clusters.upperBound == clusters.lowerBound, last.kind == kind,
            last.time == completionCount
        {
            pending[pending.count - 1].clusters = last.clusters.lowerBound..<clusters.upperBound
        } else {
            pending.append(Run(clusters: clusters, kind: kind, time: completionCount))
        }
    }

    /// Has `release` lower the counts of those that no table on disk refers to.
    ///
    /// - Parameters:
    ///   - release: lowers the counts of some clusters of a kind from the first one on; tells how many, and which are unused
    ///     now.
    ///   - epoch: the present one.
    mutating func lowerCounts(
        completionCount: UInt64, epoch: UInt64,
        _ release: (Range<UInt64>, Kind) throws(BlockError) -> (done: Int, freed: [Range<UInt64>])
    ) throws(BlockError) {
        var index = 0
        defer { pending.removeFirst(index) }
        while index < pending.count, pending[index].time < completionCount {
            let run = pending[index]
            let (done, freed) = try release(run.clusters, run.kind)
            for clusters in freed { addUnused(Run(clusters: clusters, kind: run.kind, time: epoch)) }
            let rest = run.clusters.dropFirst(done)
            pending[index].clusters = rest
            if rest.isEmpty { index += 1 }
        }
    }

    private mutating func addUnused(_ run: Run) {
        guard unused.count < Self.maximumUnusedCount else {
            forgottenEnd = max(forgottenEnd, run.clusters.upperBound)
            forgottenTime = run.time
            return
        }
        unused.insert(run, at: index(of: run.clusters.lowerBound))
    }

    /// The index of the first run that ends behind a cluster.
    private func index(of cluster: UInt64) -> Int {
        var (low, high) = (0, unused.count)
        while low < high {
            let middle = (low + high) / 2
            if unused[middle].clusters.upperBound <= cluster { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// May somebody still read or write in this cluster, which has count 0?
    func contains(_ cluster: UInt64) -> Bool {
        guard cluster >= forgottenEnd else { return true }
        let index = index(of: cluster)
        return index < unused.count && unused[index].clusters.contains(cluster)
    }

    /// Takes out those that nobody can find any more.
    ///
    /// - Returns: they; and whether there were more, of which the list was too long.
    mutating func takeUnused(_ epochs: AccessEpochs) -> (runs: [Run], isTooShort: Bool) {
        let runs = unused.filter { epochs.hasPassed($0.time) }
        if !runs.isEmpty { unused.removeAll { epochs.hasPassed($0.time) } }
        let isTooShort = forgottenEnd > 0 && epochs.hasPassed(forgottenTime)
        if isTooShort { forgottenEnd = 0 }
        return (runs, isTooShort)
    }
}
