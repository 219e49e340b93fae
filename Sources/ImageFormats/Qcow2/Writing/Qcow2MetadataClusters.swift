// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The clusters of a file that hold metadata, whatever entries and counts of a damaged image say of them: no data is written
/// there, and they are not given out.
///
/// One thread at a time changes them: see ``Qcow2Metadata``. Any thread asks the ``published`` map, without a lock.
final class Qcow2MetadataClusters {
    /// What may be asked at any time, by who is in an epoch.
    let published: Published<Map>
    private var map: Map
    private let epochs: AccessEpochs
    /// Maps that somebody may still be asking, each with the epoch in which it was replaced.
    private var replaced: [(map: Map, epoch: UInt64)] = []

    /// Runs of clusters that are remembered, 16 bytes each.
    static let maximumRunCount = 1 << 20
    /// Runs that are added before they are put in order with the others.
    private static let maximumRecentCount = 512

    /// What does not change.
    final class Map: Sendable {
        /// What does not move while the image is open: the header, L1 tables, all of snapshots and bitmaps, the LUKS header.
        let fixed: ClusterRuns
        /// L2 tables of the active disk, the refcount table and its blocks.
        fileprivate let tables: ClusterRuns
        /// Those that were added lately.
        fileprivate let recent: ClusterRuns

        fileprivate init(fixed: ClusterRuns, tables: ClusterRuns, recent: ClusterRuns) {
            self.fixed = fixed
            self.tables = tables
            self.recent = recent
        }

        /// The first of some clusters that holds metadata; nil when none does.
        func first(in clusters: Range<UInt64>) -> UInt64? {
            tables.first(in: clusters) ?? fixed.first(in: clusters) ?? recent.first(in: clusters)
        }
    }

    /// What a survey has found.
    init(_ survey: Qcow2MetadataSurvey, _ epochs: AccessEpochs) {
        map = Map(fixed: survey.fixed, tables: survey.tables, recent: ClusterRuns())
        published = Published(map)
        self.epochs = epochs
    }

    /// The first of some clusters that holds metadata; nil when none does.
    func first(in clusters: Range<UInt64>) -> UInt64? { map.first(in: clusters) }

    /// What is said when something else leads to a cluster of metadata.
    /// - Parameter reason: what does.
    static func damage(at place: UInt64, _ reason: String) -> BlockError {
        .damaged(
            "qcow2: byte \(place) of the file holds tables of the image, but \(reason): nothing is written; the image is "
                + "damaged: `qemu-img check` says where; copy what can be read of it")
    }

    /// Clusters become tables.
    /// - Throws: ``BlockError/Code/noSpace`` when there are too many runs of them.
    func add(_ clusters: Range<UInt64>) throws(BlockError) {
        guard map.tables.runs.count + map.recent.runs.count < Self.maximumRunCount else {
            throw .noSpace(
                "qcow2: the tables lie in \(Self.maximumRunCount) places of the file, and no more of them are guarded: "
                    + "`qemu-img convert` with larger clusters makes another image of it")
        }
        var (tables, recent) = (map.tables, map.recent)
        recent.insert(clusters)
        if recent.runs.count >= Self.maximumRecentCount { (tables, recent) = (tables.union(recent), ClusterRuns()) }
        replace(by: Map(fixed: map.fixed, tables: tables, recent: recent))
    }

    /// Clusters are tables of the active disk and reference counts no more; what belongs to a snapshot, too, stays.
    func remove(_ runs: [Range<UInt64>]) {
        guard !runs.isEmpty else { return }
        var (tables, recent) = (map.tables, map.recent)
        for clusters in runs {
            tables.remove(clusters)
            recent.remove(clusters)
        }
        replace(by: Map(fixed: map.fixed, tables: tables, recent: recent))
    }

    private func replace(by new: Map) {
        map = new
        replaced.append((published.replace(by: new), epochs.current))
        epochs.advance()
        replaced.removeAll { epochs.hasPassed($0.epoch) }
    }
}
