// SPDX-License-Identifier: Apache-2.0

/// What an L2 entry of a qcow image of version 1 says of its cluster.
///
/// There are no reserved bits and no mark for zeros: see docs/formats/qcow.md, "From a guest offset to bytes".
enum QcowEntry: Equatable {
    /// Nothing is stored; reads as the backing file has it, or as zeros.
    case unallocated
    /// Stored at this place.
    case data(HostOffset)
    /// Stored in compressed form.
    case compressed(CompressedCluster)
    /// An entry that the format does not allow; the text says why.
    case invalid(String)

    /// Where the compressed form of a cluster is.
    struct CompressedCluster: Hashable, Sendable {
        let offset: HostOffset
        /// In bytes; exact, and less than a cluster.
        let length: Int
    }

    private static let compressedFlag: UInt64 = 1 << 63

    /// Decodes one entry of an L2 table.
    ///
    /// Of a compressed cluster, the low 63 − cluster_bits bits are the offset, and the cluster_bits bits above them the
    /// length.
    init(l2Entry entry: UInt64, clusterBits: Int) {
        if entry & Self.compressedFlag != 0 {
            let offsetBits = UInt64(63 - clusterBits)
            let length = (entry & (Self.compressedFlag - 1)) >> offsetBits
            let offset = entry & ((1 << offsetBits) - 1)
            self =
                length == 0
                ? .invalid("says that the compressed cluster at byte \(offset) has 0 bytes")
                : .compressed(CompressedCluster(offset: HostOffset(offset), length: Int(length)))
        } else if entry == 0 {
            self = .unallocated
        } else if entry % 512 != 0 {
            self = .invalid("points to byte \(entry), which is not a multiple of 512")
        } else {
            self = .data(HostOffset(entry))
        }
    }

    /// Can a cluster be read together with an uncompressed one, `distance` bytes before it, whose entry is `first`?
    static func continues(_ next: UInt64, _ first: UInt64, after distance: UInt64) -> Bool {
        guard (next | first) & compressedFlag == 0 else { return false }
        return first == 0 ? next == 0 : next == first + distance
    }

    /// The place of an L2 table from an L1 entry; nil when there is none.
    static func l2Table(l1Entry entry: UInt64) -> HostOffset? { entry == 0 ? nil : HostOffset(entry) }
}
