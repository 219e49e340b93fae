// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Finds out in which unit an MBR counts, which it does not say.
enum DOSSectorSize {
    /// The first one, unless all entries fit the disk with a larger unit and more of them lead to something known.
    ///
    /// - Parameter views: the disk with each sector size that it may have, the usual one first; at least one.
    static func choose(for record: BootRecord, from views: [DiskSectors]) -> DiskSectors {
        let used = record.entries.filter(\.isUsed)
        var best = views[0]
        for disk in views.dropFirst() where used.allSatisfy({ $0.first > 0 && $0.first + $0.count <= disk.count }) {
            if known(used, disk) > known(used, best) { best = disk }
        }
        return best
    }

    private static func known(_ entries: [BootRecord.Entry], _ disk: DiskSectors) -> Int {
        entries.count { $0.isExtended ? isRecord($0, disk) : isVolume($0, disk) }
    }

    private static func isRecord(_ entry: BootRecord.Entry, _ disk: DiskSectors) -> Bool {
        guard let sector = try? disk.bytes(at: entry.first, count: 512), let record = BootRecord(sector) else {
            return false
        }
        return record.entries.contains(where: \.isUsed)
    }

    /// Does the partition begin with a file system or a volume that partitions usually hold?
    private static func isVolume(_ entry: BootRecord.Entry, _ disk: DiskSectors) -> Bool {
        func fields(_ offset: UInt64) -> SuperblockBytes? {
            guard entry.count > offset / disk.size else { return nil }
            let sector = entry.first + offset / disk.size
            let skipped = Int(offset % disk.size)
            guard let bytes = try? disk.bytes(at: sector, count: skipped + 512) else { return nil }
            return SuperblockBytes(Array(bytes.field(skipped, 512)))
        }
        if let start = fields(0),
            BootSector.name(start) != nil || Superblock.atStart(start) != nil || VolumeLabel.luks(start) != nil
        {
            return true
        }
        if let label = fields(512), VolumeLabel.lvm(label, at: 512) != nil { return true }
        if let block = fields(1024), ExtSuperblock.name(block) != nil { return true }
        // Swap has its magic in the last 10 bytes of its first page.
        if let page = fields(3584), page.has("SWAPSPACE2", at: 502) { return true }
        if let block = fields(65536), Superblock.btrfs(block) != nil { return true }
        return false
    }
}
