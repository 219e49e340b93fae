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

    /// QCOW_OFLAG_COPIED: the cluster is used once. In an image with a data file it also tells a cluster at offset 0 from
    /// no cluster.
    private static let copiedFlag: UInt64 = 1 << 63

    /// Decodes one entry of an L2 table, without subclusters.
    init(l2Entry entry: UInt64, _ mapping: Qcow2Mapping) {
        if entry & Self.compressedFlag != 0 {
            self = .compressed(entry, mapping)
            return
        }
        let offset = entry & Self.offsetMask
        if entry & Self.zeroFlag != 0 {
            self =
                mapping.version >= 3
                ? .zero(isReserved: offset != 0) : .invalid("is marked as zeros, which version 2 does not know")
        } else {
            self = .allocated(entry, mapping) ?? .unallocated
        }
    }

    /// Decodes the part of an extended L2 entry that belongs to one subcluster, 0 to 31.
    ///
    /// Source: qcow2 specification, "Extended L2 Entries".
    init(l2Entry entry: UInt64, bitmap: UInt64, subcluster: Int, _ mapping: Qcow2Mapping) {
        if entry & Self.compressedFlag != 0 {
            self = .compressed(entry, mapping)
            return
        }
        guard bitmap & bitmap >> 32 & 0xFFFF_FFFF == 0 else {
            self = .invalid("has a subcluster that is both allocated and zero")
            return
        }
        let cluster = Qcow2Entry.allocated(entry, mapping)
        let isAllocated = bitmap >> UInt64(subcluster) & 1 == 1
        let isZero = bitmap >> UInt64(32 + subcluster) & 1 == 1
        switch cluster {
        case .data(let host)? where isAllocated:
            self = .data(HostOffset(host.bytes + UInt64(subcluster) << UInt64(mapping.unitBits)))
        case .invalid?: self = cluster ?? .unallocated
        case _ where isZero: self = .zero(isReserved: cluster != nil)
        case nil where isAllocated: self = .invalid("has an allocated subcluster, but no cluster")
        default: self = .unallocated
        }
    }

    /// What an entry says of its cluster as a whole, for counting.
    ///
    /// - Parameter bitmap: the second word of an extended entry; of no meaning without subclusters.
    init(l2Entry entry: UInt64, bitmap: UInt64, _ mapping: Qcow2Mapping) {
        guard mapping.hasSubclusters else {
            self.init(l2Entry: entry, mapping)
            return
        }
        // A subcluster that is allocated tells the place of the cluster, one that is zero tells of zeros.
        let subcluster = bitmap & 0xFFFF_FFFF != 0 ? bitmap.trailingZeroBitCount : bitmap.trailingZeroBitCount - 32
        let part = Qcow2Entry(l2Entry: entry, bitmap: bitmap, subcluster: max(0, min(31, subcluster)), mapping)
        switch part {
        case .data: self = Qcow2Entry.allocated(entry, mapping) ?? part
        case .unallocated where entry & Self.offsetMask != 0: self = Qcow2Entry.allocated(entry, mapping) ?? part
        case .unallocated, .zero, .compressed, .invalid: self = part
        }
    }

    /// The cluster that an entry without flags points to; nil when there is none.
    private static func allocated(_ entry: UInt64, _ mapping: Qcow2Mapping) -> Qcow2Entry? {
        let offset = entry & offsetMask
        guard offset != 0 || mapping.hasDataFile && entry & copiedFlag != 0 else { return nil }
        guard offset % mapping.clusterSize == 0 else {
            return .invalid("points to byte \(offset), which is not the start of a cluster")
        }
        return .data(HostOffset(offset))
    }

    private static func compressed(_ entry: UInt64, _ mapping: Qcow2Mapping) -> Qcow2Entry {
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
        return CompressedCluster(offset: HostOffset(offset), length: Int(sectors * 512 - offset % 512))
    }
}
