// SPDX-License-Identifier: Apache-2.0

/// How the clusters of one disk are found: those of the active disk, or those of an internal snapshot.
///
/// Source: qcow2 specification, "Cluster mapping".
public struct Qcow2Mapping: ImageMapping, Equatable, Sendable {
    /// The format.
    static let formatName = "qcow2"
    /// Of the image: version 2 knows no zero clusters.
    let version: UInt32
    /// A cluster has 2^this bytes.
    let clusterBits: Int
    /// Extended L2 entries: each describes 32 subclusters.
    let hasSubclusters: Bool
    /// Clusters lie in a file of their own, where offset 0 is a place like any other.
    let hasDataFile: Bool
    /// In bytes; a multiple of the cluster size.
    let l1TableOffset: UInt64
    /// Number of entries, at least as many as the disk needs.
    let l1EntryCount: Int
    /// The disk in bytes, whole sectors of 512.
    public let virtualSize: UInt64

    /// Words of an L2 entry: log2.
    var entryWordBits: Int { hasSubclusters ? 1 : 0 }
    /// Entries of one L2 table, which fills a cluster: log2.
    var l2Bits: Int { clusterBits - 3 - entryWordBits }
    /// The smallest part of a cluster that has a state of its own, in bytes: log2.
    var unitBits: Int { hasSubclusters ? clusterBits - 5 : clusterBits }
    /// That part in bytes.
    var unitSize: UInt64 { 1 << UInt64(unitBits) }

    /// How many L1 entries a disk of `size` bytes needs.
    func l1EntriesNeeded(for size: UInt64) -> UInt64 {
        Self.l1EntriesNeeded(for: size, coverageBits: clusterBits + l2Bits)
    }

    /// The same, where an L1 entry covers 2^`coverageBits` bytes.
    static func l1EntriesNeeded(for size: UInt64, coverageBits: Int) -> UInt64 {
        (size >> UInt64(coverageBits)) + (size & ((1 << UInt64(coverageBits)) - 1) == 0 ? 0 : 1)
    }

    /// Reserved bits are ignored.
    static func l2Table(l1Entry entry: UInt64) -> HostOffset? { Qcow2Entry.l2Table(l1Entry: entry) }

    /// A table is a cluster.
    func tableFault(_ table: HostOffset, fileSize: UInt64) -> String? {
        if table.bytes % clusterSize != 0 { return "at byte \(table.bytes), which is not the start of a cluster" }
        if table.bytes + clusterSize > fileSize {
            return "at byte \(table.bytes), outside the file's \(fileSize) bytes"
        }
        return nil
    }

    /// With subclusters, of all of them.
    func cluster(in words: [UInt64], from first: Int) -> MappedCluster {
        Qcow2Entry.cluster(l2Entry: words[first], bitmap: hasSubclusters ? words[first + 1] : 0, self)
    }

    /// Joins units that lie together in the file, or are the same without a place in it.
    func run(in words: [UInt64], from first: Int, at guest: GuestOffset, limit: UInt64) -> MappedRun {
        let inCluster = guest.bytes % clusterSize
        let inUnit = guest.bytes % unitSize
        // Units are counted from the start of the first cluster.
        let firstUnit = Int(inCluster >> UInt64(unitBits))
        let cluster = decode(words, first, unit: firstUnit)
        var covered = unitSize
        while covered - inUnit < limit,
            Self.continues(
                decode(words, first, unit: firstUnit + Int(covered >> UInt64(unitBits))), cluster, after: covered)
        {
            covered += unitSize
        }
        let length = min(limit, covered - inUnit)
        switch cluster {
        case .data(let host): return MappedRun(cluster: .data(HostOffset(host.bytes + inUnit)), length: length)
        case .compressed:
            // The whole cluster is one piece, and the next one another.
            return MappedRun(cluster: cluster, length: min(limit, clusterSize - inCluster))
        case .unallocated, .zero, .invalid: return MappedRun(cluster: cluster, length: length)
        }
    }

    /// The run of data that starts with the byte `guest`, as ``run(in:from:at:limit:)`` has it, as far as it may be changed in
    /// place; nil when its first byte may not.
    func ownRun(
        in words: [UInt64], from first: Int, at guest: GuestOffset, limit: UInt64
    ) -> (host: HostOffset, length: UInt64)? {
        let run = run(in: words, from: first, at: guest, limit: limit)
        guard case .data(let host) = run.cluster else { return nil }
        let inCluster = guest.bytes % clusterSize
        var (length, entry) = (UInt64(0), first)
        while length < run.length, words[entry] & Qcow2Entry.copiedFlag != 0 {
            length = min(run.length, length + clusterSize - (length == 0 ? inCluster : 0))
            entry += 1 << entryWordBits
        }
        // In a data file, each cluster has one place.
        guard length > 0, !hasDataFile || host.bytes == guest.bytes else { return nil }
        return (host, length)
    }

    /// What a unit is, counted from the cluster whose entry starts at the word `first`.
    @inline(__always)
    private func decode(_ words: [UInt64], _ first: Int, unit: Int) -> MappedCluster {
        guard hasSubclusters else { return Qcow2Entry.cluster(l2Entry: words[first + unit], self) }
        let entry = first + unit / 32 * 2
        return Qcow2Entry.subcluster(unit & 31, l2Entry: words[entry], bitmap: words[entry + 1], self)
    }

    /// Can a unit be read together with `first`, `distance` bytes before it?
    private static func continues(_ next: MappedCluster, _ first: MappedCluster, after distance: UInt64) -> Bool {
        switch (first, next) {
        case (.unallocated, .unallocated), (.zero, .zero): true
        case (.data(let start), .data(let host)): host.bytes == start.bytes + distance
        default: false
        }
    }
}
