// SPDX-License-Identifier: Apache-2.0

/// How the clusters of one disk are found: those of the active disk, or those of an internal snapshot.
///
/// Source: qcow2 specification, "Cluster mapping".
public struct Qcow2Mapping: Equatable, Sendable {
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

    /// A cluster in bytes.
    var clusterSize: UInt64 { 1 << UInt64(clusterBits) }
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
}
