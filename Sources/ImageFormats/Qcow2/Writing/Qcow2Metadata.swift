// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The tables and reference counts of an image that is written to. Who has the lock of the writer uses it, while the file is
/// read, written and flushed.
final class Qcow2Metadata {
    private let header: Qcow2Header
    private let changes: Qcow2TableChanges
    private let clusters: Qcow2MetadataClusters
    private let allocator: Qcow2Allocator
    private let l2Tables: Qcow2L2Tables
    private let mapping: Qcow2Mapping

    init(
        _ header: Qcow2Header, _ image: MappedImage<Qcow2Mapping>, file: any GrowableDevice,
        _ clusters: Qcow2MetadataClusters, _ epochs: AccessEpochs
    ) {
        self.header = header
        self.clusters = clusters
        mapping = image.mapping
        changes = Qcow2TableChanges(image.share, file: file, dataFile: image.dataFile)
        let refcounts = Qcow2Refcounts(header, changes)
        allocator = Qcow2Allocator(header, changes, refcounts, clusters, epochs)
        l2Tables = Qcow2L2Tables(image.tables, changes, allocator)
    }

    /// Has the image say what will not be true any more.
    func prepare() throws(BlockError) { try Qcow2HeaderChange.prepare(changes.file, header) }

    /// Places for clusters that have none of their own, up to `count` of them, from that of `guest` on.
    ///
    /// They are those of one slice of an L2 table, which is there afterwards.
    /// - Throws: ``BlockError``; nothing has been given out then.
    func allocate(_ count: Int, at guest: GuestOffset) throws(BlockError) -> Qcow2Allocator.Run {
        _ = try l2Tables.table(for: guest)
        guard !mapping.hasDataFile else {
            let first = guest.bytes / mapping.clusterSize
            return Qcow2Allocator.Run(clusters: first..<(first + UInt64(count)), isFresh: false)
        }
        return try allocator.allocate(upTo: count)
    }

    /// Takes back what ``allocate(_:at:)`` has given out and no table refers to.
    func abandon(_ clusters: Range<UInt64>) {
        if !mapping.hasDataFile { allocator.abandon(clusters) }
    }

    /// Replaces the entries of clusters in a row, all in one slice of an L2 table, and gives up what is theirs no more.
    ///
    /// - Parameters:
    ///   - old: what they say now.
    ///   - new: what they are to say.
    ///   - isDiscard: nobody needs any more what is given up.
    /// - Throws: ``BlockError``; no entry has been replaced then.
    func replace(
        _ old: [Qcow2ClusterState], by new: [Qcow2ClusterState], at guest: GuestOffset, isDiscard: Bool = false
    ) throws(BlockError) {
        for (index, (old, new)) in zip(old, new).enumerated() where old.place != new.place {
            guard let cluster = clusters.first(in: old.hostClusters(mapping)) else { continue }
            let offset = guest.bytes + UInt64(index) * mapping.clusterSize
            throw Qcow2MetadataClusters.damage(
                at: cluster * mapping.clusterSize, "the L2 entry of guest offset \(offset) leads there")
        }
        try allocator.makeRoom()
        try l2Tables.set(new, at: guest, in: l2Tables.table(for: guest))
        for (old, new) in zip(old, new) where old.place != new.place {
            let clusters = old.hostClusters(mapping)
            guard !clusters.isEmpty else { continue }
            allocator.free(clusters, old.isCompressed ? .compressed : isDiscard ? .discarded : .data)
        }
    }

    /// Brings everything to disk.
    func flush() throws(BlockError) { try allocator.flush() }
}
