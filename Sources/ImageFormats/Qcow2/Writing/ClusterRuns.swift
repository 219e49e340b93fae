// SPDX-License-Identifier: Apache-2.0

/// Clusters of a file, by their numbers: runs in the order of their places, 16 bytes for each.
struct ClusterRuns: Equatable, Sendable {
    /// None is empty, and between two of them is a cluster that is in neither.
    private(set) var runs: [Range<UInt64>] = []

    /// No clusters.
    init() {}

    /// The clusters of runs in any order, which may overlap.
    init(_ runs: [Range<UInt64>]) {
        for run in runs.sorted(by: { $0.lowerBound < $1.lowerBound }) { append(run) }
    }

    /// The first of some clusters that is in here; nil when none is. Takes a binary search.
    func first(in clusters: Range<UInt64>) -> UInt64? {
        let index = firstIndex(endingBehind: clusters.lowerBound)
        guard index < runs.count, runs[index].lowerBound < clusters.upperBound, !clusters.isEmpty else { return nil }
        return max(runs[index].lowerBound, clusters.lowerBound)
    }

    /// The first cluster that is both in here and in others.
    func first(in others: ClusterRuns) -> UInt64? {
        for run in others.runs {
            if let cluster = first(in: run) { return cluster }
        }
        return nil
    }

    /// Adds clusters. Takes as long as to copy the runs behind them.
    mutating func insert(_ clusters: Range<UInt64>) {
        guard !clusters.isEmpty else { return }
        // Those that touch it become one with it.
        let start = clusters.lowerBound == 0 ? 0 : firstIndex(endingBehind: clusters.lowerBound - 1)
        var (end, run) = (start, clusters)
        while end < runs.count, runs[end].lowerBound <= clusters.upperBound {
            run = min(run.lowerBound, runs[end].lowerBound)..<max(run.upperBound, runs[end].upperBound)
            end += 1
        }
        runs.replaceSubrange(start..<end, with: CollectionOfOne(run))
    }

    /// Takes out clusters, those of them that are in here. Takes as long as ``insert(_:)``.
    mutating func remove(_ clusters: Range<UInt64>) {
        guard !clusters.isEmpty else { return }
        let start = firstIndex(endingBehind: clusters.lowerBound)
        var (end, rest) = (start, [Range<UInt64>]())
        while end < runs.count, runs[end].lowerBound < clusters.upperBound {
            let run = runs[end]
            if run.lowerBound < clusters.lowerBound { rest.append(run.lowerBound..<clusters.lowerBound) }
            if clusters.upperBound < run.upperBound { rest.append(clusters.upperBound..<run.upperBound) }
            end += 1
        }
        runs.replaceSubrange(start..<end, with: rest)
    }

    /// These and others.
    func union(_ others: ClusterRuns) -> ClusterRuns {
        var all = ClusterRuns()
        all.runs.reserveCapacity(runs.count + others.runs.count)
        var rest = others.runs[...]
        for run in runs {
            while let other = rest.first, other.lowerBound < run.lowerBound {
                all.append(other)
                rest.removeFirst()
            }
            all.append(run)
        }
        for other in rest { all.append(other) }
        return all
    }

    /// Adds a run that does not begin before the last one.
    private mutating func append(_ run: Range<UInt64>) {
        guard !run.isEmpty else { return }
        guard let last = runs.last, run.lowerBound <= last.upperBound else { return runs.append(run) }
        runs[runs.count - 1] = last.lowerBound..<max(last.upperBound, run.upperBound)
    }

    private func firstIndex(endingBehind cluster: UInt64) -> Int {
        var (low, high) = (0, runs.count)
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].upperBound <= cluster { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
