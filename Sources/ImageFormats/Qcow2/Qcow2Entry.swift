// SPDX-License-Identifier: Apache-2.0

/// Decodes entries of the tables of a qcow2 image.
///
/// Source: qcow2 specification, "Cluster mapping": L2 table entry, Standard Cluster Descriptor, Compressed Clusters
/// Descriptor. Reserved bits are ignored, as QEMU ignores them.
enum Qcow2Entry {
    private static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00
    private static let compressedFlag: UInt64 = 1 << 62
    private static let zeroFlag: UInt64 = 1

    /// QCOW_OFLAG_COPIED: the cluster is used once. In an image with a data file it also tells a cluster at offset 0 from
    /// no cluster.
    static let copiedFlag: UInt64 = 1 << 63

    /// What an entry of an L2 table without subclusters says of its cluster.
    static func cluster(l2Entry entry: UInt64, _ mapping: Qcow2Mapping) -> MappedCluster {
        guard entry & compressedFlag == 0 else { return compressed(entry, mapping) }
        guard entry & zeroFlag != 0 else { return allocated(entry, mapping) ?? .unallocated }
        return mapping.version >= 3
            ? .zero(isReserved: entry & offsetMask != 0)
            : .invalid("is marked as zeros, which version 2 does not know")
    }

    /// What an extended L2 entry says of one subcluster, 0 to 31.
    ///
    /// Source: qcow2 specification, "Extended L2 Entries".
    static func subcluster(
        _ subcluster: Int, l2Entry entry: UInt64, bitmap: UInt64, _ mapping: Qcow2Mapping
    ) -> MappedCluster {
        guard entry & compressedFlag == 0 else { return compressed(entry, mapping) }
        guard bitmap & bitmap >> 32 & 0xFFFF_FFFF == 0 else {
            return .invalid("has a subcluster that is both allocated and zero")
        }
        let cluster = allocated(entry, mapping)
        let isAllocated = bitmap >> UInt64(subcluster) & 1 == 1
        let isZero = bitmap >> UInt64(32 + subcluster) & 1 == 1
        switch cluster {
        case .data(let host)? where isAllocated:
            return .data(HostOffset(host.bytes + UInt64(subcluster) << UInt64(mapping.unitBits)))
        case .invalid?: return cluster ?? .unallocated
        case _ where isZero: return .zero(isReserved: cluster != nil)
        case nil where isAllocated: return .invalid("has an allocated subcluster, but no cluster")
        default: return .unallocated
        }
    }

    /// What an entry says of its cluster as a whole, for counting.
    ///
    /// - Parameter bitmap: the second word of an extended entry; of no meaning without subclusters.
    static func cluster(l2Entry entry: UInt64, bitmap: UInt64, _ mapping: Qcow2Mapping) -> MappedCluster {
        guard mapping.hasSubclusters else { return cluster(l2Entry: entry, mapping) }
        // A subcluster that is allocated tells the place of the cluster, one that is zero tells of zeros.
        let number = bitmap & 0xFFFF_FFFF != 0 ? bitmap.trailingZeroBitCount : bitmap.trailingZeroBitCount - 32
        let part = subcluster(max(0, min(31, number)), l2Entry: entry, bitmap: bitmap, mapping)
        switch part {
        case .data: return allocated(entry, mapping) ?? part
        case .unallocated where entry & offsetMask != 0: return allocated(entry, mapping) ?? part
        case .unallocated, .zero, .compressed, .invalid: return part
        }
    }

    /// The cluster that an entry without flags points to; nil when there is none.
    private static func allocated(_ entry: UInt64, _ mapping: Qcow2Mapping) -> MappedCluster? {
        let offset = entry & offsetMask
        guard offset != 0 || mapping.hasDataFile && entry & copiedFlag != 0 else { return nil }
        guard offset % mapping.clusterSize == 0 else {
            return .invalid("points to byte \(offset), which is not the start of a cluster")
        }
        return .data(HostOffset(offset))
    }

    private static func compressed(_ entry: UInt64, _ mapping: Qcow2Mapping) -> MappedCluster {
        mapping.hasDataFile
            ? .invalid("is compressed, which clusters of an external data file cannot be")
            : .compressed(compressed(entry, clusterBits: mapping.clusterBits))
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
        return CompressedCluster(
            offset: HostOffset(offset), length: Int(sectors * 512 - offset % 512), isExact: false)
    }
}
