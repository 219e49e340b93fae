// SPDX-License-Identifier: Apache-2.0

/// How the clusters of one disk are found: what an image format says of its tables and of the entries in them.
///
/// There are two levels: an entry of the L1 table has the place of an L2 table, whose entries describe clusters. Entries
/// are big-endian words of 64 bits. A ``MappedImage`` makes a disk of it. What calls these functions is compiled anew for
/// each format: none of them costs more than what it does.
protocol ImageMapping: Sendable {
    /// What sentences begin with.
    static var formatName: String { get }
    /// The disk in bytes, whole sectors of 512.
    var virtualSize: UInt64 { get }
    /// A cluster has 2^this bytes.
    var clusterBits: Int { get }
    /// In bytes; the table is in the file.
    var l1TableOffset: UInt64 { get }
    /// Number of entries, at least as many as the disk needs.
    var l1EntryCount: Int { get }
    /// Entries of one L2 table: log2.
    var l2Bits: Int { get }
    /// Words of an L2 entry: log2.
    var entryWordBits: Int { get }

    /// The place of an L2 table from an L1 entry; nil when there is none.
    static func l2Table(l1Entry entry: UInt64) -> HostOffset?

    /// Why a whole L2 table cannot be at this place; nil when it can. Completes "an L2 table …".
    func tableFault(_ table: HostOffset, fileSize: UInt64) -> String?

    /// What an entry of an L2 table says of its cluster as a whole, for counting.
    ///
    /// - Parameter first: index of its first word.
    func cluster(in words: [UInt64], from first: Int) -> MappedCluster

    /// The run that starts with the byte `guest`.
    ///
    /// - Parameters:
    ///   - words: of an L2 table.
    ///   - first: index of the first word of the entry of `guest`.
    ///   - limit: in bytes, more than 0; the words reach at least as far.
    func run(in words: [UInt64], from first: Int, at guest: GuestOffset, limit: UInt64) -> MappedRun
}

extension ImageMapping {
    /// A cluster in bytes.
    var clusterSize: UInt64 { 1 << UInt64(clusterBits) }
    /// Words of a slice of a table: at most 4 KiB, and no more than an L2 table has.
    var sliceWords: Int { 1 << min(9, l2Bits + entryWordBits) }
}

/// Bytes of a disk that are the same kind of thing, and of which one read gives all.
struct MappedRun {
    /// Of data, the place of the first byte.
    let cluster: MappedCluster
    /// In bytes; more than 0.
    let length: UInt64
}
