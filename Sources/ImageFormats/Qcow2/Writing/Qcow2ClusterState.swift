// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// What an L2 entry says of its cluster, to be changed: where it is, and what of it is data or zeros.
///
/// A cluster without subclusters is treated as one that has a single one.
struct Qcow2ClusterState: Equatable {
    /// Where a cluster is in the file.
    enum Place: Equatable {
        case none
        /// At this byte, used by nobody else.
        case own(UInt64)
        /// At this byte, used by others, too: it must not be changed.
        case shared(UInt64)
        case compressed(CompressedCluster)
    }

    var place: Place
    /// Units that are stored at `place`: bit 0 is the first one.
    var data: UInt32
    /// Units that are marked as zeros. What is neither is not allocated.
    var zeros: UInt32

    /// Nothing is allocated.
    static let unallocated = Qcow2ClusterState(place: .none, data: 0, zeros: 0)

    private static let zeroFlag: UInt64 = 1

    init(place: Place, data: UInt32, zeros: UInt32) {
        self.place = place
        self.data = data
        self.zeros = zeros
    }

    /// Decodes an entry.
    ///
    /// - Parameters:
    ///   - bitmap: its second word; 0 without subclusters.
    ///   - guest: the first byte of the cluster.
    /// - Throws: ``BlockError/Code/damaged`` when the format does not allow the entry, or when it refers to a place of a data
    ///   file where another cluster may be put.
    init(
        word: UInt64, bitmap: UInt64, _ mapping: Qcow2Mapping, at guest: GuestOffset
    ) throws(BlockError) {
        func damaged(_ reason: String) -> BlockError {
            .damaged("qcow2: guest offset \(guest.bytes): the L2 entry \(reason)")
        }
        (data, zeros) = (0, 0)
        switch Qcow2Entry.cluster(l2Entry: word & ~Self.zeroFlag, mapping) {
        case .unallocated: place = .none
        case .zero: place = .none
        case .compressed(let cluster):
            place = .compressed(cluster)
            data = mapping.allUnits
            return
        case .data(let host):
            if mapping.hasDataFile, host.bytes != guest.bytes {
                throw damaged(
                    "points to byte \(host.bytes) of the data file, and not to the same place as on the disk: "
                        + "such an image is not written to; `qemu-img convert` makes another one of it")
            }
            place = mapping.hasDataFile || word & Qcow2Entry.copiedFlag != 0 ? .own(host.bytes) : .shared(host.bytes)
        case .invalid(let reason): throw damaged(reason)
        }
        guard mapping.hasSubclusters else {
            guard word & Self.zeroFlag == 0 else {
                guard mapping.version >= 3 else { throw damaged("is marked as zeros, which version 2 does not know") }
                zeros = 1
                return
            }
            data = place == .none ? 0 : 1
            return
        }
        (data, zeros) = (UInt32(truncatingIfNeeded: bitmap), UInt32(truncatingIfNeeded: bitmap >> 32))
        guard data & zeros == 0 else { throw damaged("has a subcluster that is both allocated and zero") }
        guard data == 0 || place != .none else { throw damaged("has an allocated subcluster, but no cluster") }
    }

    /// The entry that says this; of compressed clusters nobody makes one.
    func entry(_ mapping: Qcow2Mapping) -> (word: UInt64, bitmap: UInt64) {
        let word: UInt64 =
            switch place {
            case .none, .compressed: 0
            case .own(let host): host | Qcow2Entry.copiedFlag
            case .shared(let host): host
            }
        guard !mapping.hasSubclusters else { return (word, UInt64(zeros) << 32 | UInt64(data)) }
        return (zeros == 0 ? word : word | Self.zeroFlag, 0)
    }

    /// The clusters of the file that are given up with `place`: their numbers.
    func hostClusters(_ mapping: Qcow2Mapping) -> Range<UInt64> {
        switch place {
        case .none: return 0..<0
        case .own(let host), .shared(let host):
            // Clusters of a data file have no reference counts.
            let first = host >> UInt64(mapping.clusterBits)
            return mapping.hasDataFile ? 0..<0 : first..<(first + 1)
        case .compressed(let cluster):
            let first = cluster.offset.bytes >> UInt64(mapping.clusterBits)
            let last = (cluster.offset.bytes + UInt64(cluster.length) - 1) >> UInt64(mapping.clusterBits)
            return first..<(last + 1)
        }
    }

    /// Is a part of it kept in memory as something else than clusters of data are?
    var isCompressed: Bool {
        if case .compressed = place { true } else { false }
    }

    /// The byte of the file where the cluster begins, if it is used by nobody else.
    var ownPlace: UInt64? {
        if case .own(let host) = place { host } else { nil }
    }
}

extension Qcow2Mapping {
    /// Bits for all units of a cluster.
    var allUnits: UInt32 { hasSubclusters ? .max : 1 }

    /// Bits for the units that a part of a cluster touches, which is not empty.
    ///
    /// - Parameter range: in bytes, within the cluster.
    func units(touching range: Range<UInt64>) -> UInt32 {
        let first = UInt32(range.lowerBound >> UInt64(unitBits))
        let last = UInt32((range.upperBound - 1) >> UInt64(unitBits))
        return (UInt32.max << first) & (UInt32.max >> (31 - last))
    }
}
