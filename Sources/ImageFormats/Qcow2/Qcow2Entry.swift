// SPDX-License-Identifier: Apache-2.0

/// What an L2 entry says of its cluster.
///
/// Source: qcow2 specification, "Cluster mapping": L2 table entry, Standard Cluster Descriptor, Compressed Clusters
/// Descriptor. Reserved bits are ignored, as QEMU ignores them.
enum Qcow2Entry: Equatable {
    /// Nothing is stored; reads as zeros when there is no backing file.
    case unallocated
    /// Reads as zeros; a cluster may be reserved for it all the same.
    case zero(isReserved: Bool)
    /// Stored at this place.
    case data(HostOffset)
    /// Stored in compressed form.
    case compressed(CompressedCluster)
    /// An entry that the format does not allow; the text says why.
    case invalid(String)

    /// Where the compressed form of a cluster is.
    struct CompressedCluster: Hashable, Sendable {
        let offset: HostOffset
        /// In bytes, up to the end of the last 512-byte sector; the compressed form may end earlier.
        let length: Int
    }

    private static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00
    private static let compressedFlag: UInt64 = 1 << 62
    private static let zeroFlag: UInt64 = 1

    /// Decodes one entry of an L2 table.
    init(l2Entry entry: UInt64, clusterBits: Int, version: UInt32) {
        if entry & Self.compressedFlag != 0 {
            self = .compressed(Self.compressed(entry, clusterBits: clusterBits))
            return
        }
        let offset = entry & Self.offsetMask
        if entry & Self.zeroFlag != 0 {
            self =
                version >= 3
                ? .zero(isReserved: offset != 0) : .invalid("is marked as zeros, which version 2 does not know")
        } else if offset == 0 {
            self = .unallocated
        } else if offset % (1 << UInt64(clusterBits)) != 0 {
            self = .invalid("points to byte \(offset), which is not the start of a cluster")
        } else {
            self = .data(HostOffset(offset))
        }
    }

    /// The place of an L2 table from an L1 entry; nil when there is none.
    static func l2Table(l1Entry entry: UInt64) -> HostOffset? {
        let offset = entry & offsetMask
        return offset == 0 ? nil : HostOffset(offset)
    }

    /// Bits 0 to x−1 are the offset, bits x to 61 the number of *additional* sectors, x = 62 − (cluster_bits − 8).
    private static func compressed(_ entry: UInt64, clusterBits: Int) -> CompressedCluster {
        let x = UInt64(62 - (clusterBits - 8))
        let offset = entry & ((1 << x) - 1)
        let sectors = (entry & (compressedFlag - 1)) >> x + 1
        return CompressedCluster(offset: HostOffset(offset), length: Int(sectors * 512 - offset % 512))
    }
}
