// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Finds out in which unit an MBR counts, which it does not say.
///
/// What speaks for a unit: all partitions end on the disk, and partitions begin with something known. A unit is chosen
/// when all that is known speaks for it and for no other; there is no unit that is likely enough to be taken otherwise,
/// for with a wrong one a client gets another part of the disk.
struct DOSSectorSize {
    private let disk: any BlockDevice
    private let used: [BootRecord.Entry]

    /// The disk in the unit of its table.
    ///
    /// - Parameter views: the disk with each sector size that it may have; at least one.
    /// - Throws: `unsupported` when it cannot be told which of them it is.
    static func choose(
        for record: BootRecord, from views: [DiskSectors], on disk: any BlockDevice
    ) throws(FormatError) -> DiskSectors {
        guard views.count > 1 else { return views[0] }
        let evidence = DOSSectorSize(disk: disk, used: record.entries.filter(\.isUsed))
        let fitting = views.filter { view in evidence.used.allSatisfy { $0.first + $0.count <= view.count } }
        let known = views.map { (view: $0, count: evidence.known($0)) }.filter { $0.count > 0 }
        let both = known.filter { candidate in fitting.contains { $0.size == candidate.view.size } }
        let candidates: [DiskSectors]
        if known.isEmpty {
            candidates = fitting
        } else if fitting.isEmpty {
            // The disk has lost its end.
            candidates = known.map(\.view)
        } else if both.count > 1 {
            // What is known in one of them may be known by accident in the others, but not for all partitions.
            let most = evidence.used.count { $0.first > 0 }
            let complete = both.filter { $0.count == most }
            candidates = (complete.isEmpty ? both : complete).map(\.view)
        } else {
            candidates = both.map(\.view)
        }
        guard let chosen = candidates.first, candidates.count == 1 else {
            let sizes = (candidates.isEmpty ? views : candidates).map { String($0.size) }
            throw .unsupported(
                "partitions: the DOS partition table in the first sector does not say its sector size, and what the disk holds "
                    + "does not decide between \(sizes.joined(separator: ", ")) bytes; say \(remedy: .sectorSize(nil)) with that of the "
                    + "disk that it was made for, most often 512")
        }
        return chosen
    }

    /// How many entries lead to something known.
    private func known(_ view: DiskSectors) -> Int {
        // What begins with the disk does so in every unit.
        used.count { $0.first > 0 && ($0.isExtended ? isRecord($0, view) : isVolume($0, view)) }
    }

    private func isRecord(_ entry: BootRecord.Entry, _ view: DiskSectors) -> Bool {
        guard let sector = try? view.bytes(at: entry.first, count: 512), let record = BootRecord(sector) else {
            return false
        }
        return record.entries.contains { $0.isUsed && ($0.isExtended || $0.first < entry.count) }
    }

    /// Does the partition begin with a file system or a volume that partitions usually hold, or with a table of its own?
    private func isVolume(_ entry: BootRecord.Entry, _ view: DiskSectors) -> Bool {
        guard entry.first < view.count,
            let range = ByteRange(
                offset: entry.first * view.size, length: min(entry.count, view.count - entry.first) * view.size)
        else { return false }
        if !DiskStart.volumes(disk, range).isEmpty { return true }
        guard let sector = try? view.bytes(at: entry.first, count: 512), let record = BootRecord(sector) else {
            return false
        }
        return record.isPartitionTable(in: [view])
    }
}
