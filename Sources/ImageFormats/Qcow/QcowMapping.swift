// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// How the clusters of a qcow image of version 1 are found.
struct QcowMapping: ImageMapping {
    /// The format.
    static let formatName = "qcow"
    /// The disk in bytes, whole sectors of 512.
    let virtualSize: UInt64
    /// A cluster has 2^this bytes.
    let clusterBits: Int
    /// In bytes; need not be aligned.
    let l1TableOffset: UInt64
    /// Number of entries, as many as the disk needs.
    let l1EntryCount: Int
    /// Entries of one L2 table: log2.
    let l2Bits: Int
    /// An entry is one word.
    let entryWordBits = 0

    /// That of the one disk of an image.
    init(_ header: QcowHeader) {
        virtualSize = header.virtualSize
        clusterBits = header.clusterBits
        l1TableOffset = header.l1TableOffset
        l1EntryCount = header.l1EntryCount
        l2Bits = header.l2Bits
    }

    /// All 64 bits are the place.
    static func l2Table(l1Entry entry: UInt64) -> HostOffset? { QcowEntry.l2Table(l1Entry: entry) }

    /// Any byte of the file may be a table's first one.
    func tableFault(_ table: HostOffset, fileSize: UInt64) -> String? {
        guard let range = ByteRange(offset: table.bytes, length: 8 << UInt64(l2Bits)), range.fits(fileSize) else {
            return "at byte \(table.bytes), outside the file's \(fileSize) bytes"
        }
        return nil
    }

    /// An entry is a word.
    func cluster(in words: [UInt64], from first: Int) -> MappedCluster {
        QcowEntry.cluster(l2Entry: words[first], clusterBits: clusterBits)
    }

    /// Joins clusters that lie together in the file, or are not stored.
    func run(in words: [UInt64], from first: Int, at guest: GuestOffset, limit: UInt64) -> MappedRun {
        let inCluster = guest.bytes % clusterSize
        let raw = words[first]
        var covered = clusterSize
        while covered - inCluster < limit,
            QcowEntry.continues(words[first + Int(covered >> UInt64(clusterBits))], raw, after: covered)
        {
            covered += clusterSize
        }
        var cluster = QcowEntry.cluster(l2Entry: raw, clusterBits: clusterBits)
        if case .data(let host) = cluster { cluster = .data(HostOffset(host.bytes + inCluster)) }
        return MappedRun(cluster: cluster, length: min(limit, covered - inCluster))
    }
}
