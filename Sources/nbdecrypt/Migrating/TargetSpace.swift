// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack

/// How much of a file system a new image takes.
enum TargetSpace {
    /// The upper bound, in bytes; saturates.
    ///
    /// Of qcow2 it counts the tables of a full disk, as `qemu-img measure` does.
    static func most(_ format: TargetFormat, _ estimate: CopyEstimate) -> UInt64 {
        switch format {
        case .raw: estimate.allocated
        case .qcow2: [estimate.allocated, tables(estimate.size)].saturatingSum
        case .qcow2LUKS: [estimate.allocated, tables(estimate.size), luksHeader].saturatingSum
        case .luks1, .luks2: [estimate.size, ImageMaker.dataOffset(format)].saturatingSum
        }
    }

    /// The LUKS header that qemu-img makes, with eight keyslots for a key of 512 bits, in whole clusters.
    private static let luksHeader: UInt64 = 2 << 20

    /// Clusters, of qemu-img's usual size, for the tables of a disk of which each cluster is stored; in bytes.
    private static func tables(_ size: UInt64) -> UInt64 {
        let clusterSize: UInt64 = 64 << 10
        let clusters = size.units(of: clusterSize)
        let l2Tables = clusters.units(of: clusterSize / 8)
        let known = clusters + 1 + l2Tables + l2Tables.units(of: clusterSize / 8)
        // Reference counts have 16 bits, and are there for their own clusters, too.
        var (blocks, table): (UInt64, UInt64) = (0, 0)
        while true {
            let needed = (known + blocks + table).units(of: clusterSize / 2)
            guard needed > blocks else { break }
            blocks = needed
            table = blocks.units(of: clusterSize / 8)
        }
        return (known - clusters + blocks + table) * clusterSize
    }
}
