// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack

/// How much of a file system a new image takes.
enum TargetSpace {
    /// How large clusters of qcow2 are, and what an entry for one takes, in bytes.
    struct Clusters {
        let size: UInt64
        let entrySize: UInt64

        /// As qemu-img makes them without being asked.
        static let usual = Clusters(size: 64 << 10, entrySize: 8)
    }

    /// The upper bound, in bytes; saturates.
    ///
    /// Of qcow2 it counts the tables of a full disk, as `qemu-img measure` does.
    static func most(_ format: TargetFormat, _ estimate: CopyEstimate, _ clusters: Clusters = .usual) -> UInt64 {
        let unit = clusters.size
        return switch format {
        case .raw: estimate.allocated
        case .qcow2: [estimate.allocated, tables(estimate.size, clusters)].saturatingSum
        case .qcow2LUKS:
            [estimate.allocated, tables(estimate.size, clusters), luksHeader.units(of: unit) * unit].saturatingSum
        case .luks1, .luks2: [estimate.size, ImageMaker.dataOffset(format)].saturatingSum
        }
    }

    /// The LUKS header that qemu-img makes, with eight keyslots for a key of 512 bits, in bytes; it takes whole clusters.
    private static let luksHeader: UInt64 = 4040 * 512

    /// Clusters for the tables of a disk of which each cluster is stored; in bytes.
    private static func tables(_ size: UInt64, _ clusters: Clusters) -> UInt64 {
        let clusterSize = clusters.size
        let clusterCount = size.units(of: clusterSize)
        let l2Tables = clusterCount.units(of: clusterSize / clusters.entrySize)
        let known = clusterCount + 1 + l2Tables + l2Tables.units(of: clusterSize / 8)
        // Reference counts have 16 bits, and are there for their own clusters, too.
        var (blocks, table): (UInt64, UInt64) = (0, 0)
        while true {
            let needed = (known + blocks + table).units(of: clusterSize / 2)
            guard needed > blocks else { break }
            blocks = needed
            table = blocks.units(of: clusterSize / 8)
        }
        return (known - clusterCount + blocks + table) * clusterSize
    }
}

extension TargetSpace.Clusters {
    /// Those of an image that stands on another.
    init(over base: NewBase) { self.init(size: base.clusterSize, entrySize: base.hasSubclusters ? 16 : 8) }
}
