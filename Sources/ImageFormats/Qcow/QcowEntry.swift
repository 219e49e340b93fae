// SPDX-License-Identifier: Apache-2.0

/// Decodes entries of the tables of a qcow image of version 1.
///
/// There are no reserved bits and no mark for zeros: see docs/formats/qcow.md, "From a guest offset to bytes".
enum QcowEntry {
    private static let compressedFlag: UInt64 = 1 << 63

    /// What an L2 entry says of its cluster.
    ///
    /// Of a compressed cluster, the low 63 − cluster_bits bits are the offset, and the cluster_bits bits above them the
    /// length, which is less than a cluster.
    static func cluster(l2Entry entry: UInt64, clusterBits: Int) -> MappedCluster {
        if entry & compressedFlag != 0 {
            let offsetBits = UInt64(63 - clusterBits)
            let length = (entry & (compressedFlag - 1)) >> offsetBits
            let offset = entry & ((1 << offsetBits) - 1)
            return length == 0
                ? .invalid("says that the compressed cluster at byte \(offset) has 0 bytes")
                : .compressed(CompressedCluster(offset: HostOffset(offset), length: Int(length), isExact: true))
        }
        if entry == 0 { return .unallocated }
        guard entry % 512 == 0 else { return .invalid("points to byte \(entry), which is not a multiple of 512") }
        return .data(HostOffset(entry))
    }

    /// Can a cluster be read together with an uncompressed one, `distance` bytes before it, whose entry is `first`?
    static func continues(_ next: UInt64, _ first: UInt64, after distance: UInt64) -> Bool {
        guard (next | first) & compressedFlag == 0 else { return false }
        return first == 0 ? next == 0 : next == first + distance
    }

    /// The place of an L2 table from an L1 entry; nil when there is none.
    static func l2Table(l1Entry entry: UInt64) -> HostOffset? { entry == 0 ? nil : HostOffset(entry) }
}
