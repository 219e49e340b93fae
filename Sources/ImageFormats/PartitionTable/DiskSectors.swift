// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A disk as rows of sectors of one size, for what reads partition tables.
struct DiskSectors {
    /// Of one sector, in bytes.
    let size: UInt64
    /// How many whole sectors the disk has.
    let count: UInt64
    private let disk: AlignedDevice

    init(_ disk: any BlockDevice, sectorSize: Int) {
        self.disk = AlignedDevice(disk)
        size = UInt64(sectorSize)
        count = disk.size / size
    }

    /// `count` bytes from the start of a sector on; nil when they do not lie in whole sectors of the disk.
    ///
    /// The caller has checked that `count` is reasonable.
    func bytes(at sector: UInt64, count: Int) throws(BlockError) -> SuperblockBytes? {
        guard sector < self.count, UInt64(count) <= (self.count - sector) * size else { return nil }
        return SuperblockBytes(try disk.read(count: count, at: sector * size))
    }
}
