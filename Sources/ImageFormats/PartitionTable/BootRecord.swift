// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The four entries at the end of a sector: of the first one of a disk (MBR), or of one in an extended partition (EBR).
///
/// Layout: bytes 446 to 509 are four entries of 16 bytes (status, first CHS, type, last CHS, first sector, number of
/// sectors; little-endian), bytes 510 and 511 are 55 AA.
struct BootRecord {
    /// One of the four.
    struct Entry {
        private let status: UInt8
        let type: UInt8
        /// Counts from the start of the disk, of this record, or of the extended partition.
        let first: UInt64
        /// 0 when the entry is not in use.
        let count: UInt64

        init(_ sector: SuperblockBytes, at offset: Int) {
            status = sector.byte(offset)
            type = sector.byte(offset + 4)
            first = UInt64(sector.little(offset + 8, UInt32.self))
            count = UInt64(sector.little(offset + 12, UInt32.self))
        }

        /// Type 0 counts: hybrid discs have it.
        var isUsed: Bool { count != 0 }
        /// Of DOS, of Windows, of Linux.
        var isExtended: Bool { isUsed && [0x05, 0x0F, 0x85].contains(type) }
        /// Stands for a GPT.
        var isProtective: Bool { isUsed && type == 0xEE }
        /// Bootable or not: there is no other status.
        var hasKnownStatus: Bool { status & 0x7F == 0 }
        /// The type as a number in hexadecimal.
        var typeText: String { "0x\(type.hexadecimal())" }
    }

    let entries: [Entry]
    /// The sector is the first one of a file system of DOS or Windows, or of a LUKS container.
    private let otherUse: OtherUse

    private enum OtherUse { case none, fileSystem, container }

    /// Nil when the sector does not end as it must.
    init?(_ sector: SuperblockBytes) {
        guard sector.little(510, UInt16.self) == 0xAA55 else { return nil }
        entries = (0..<4).map { Entry(sector, at: 446 + 16 * $0) }
        otherUse =
            ["LUKS", "RBDL"].contains { sector.has($0, at: 0) } && sector.big(4, UInt16.self) == 0xBABE
            ? .container : BootSector.name(sector) != nil ? .fileSystem : .none
    }

    /// Is there an entry that stands for a GPT?
    var isProtective: Bool { entries.contains(where: \.isProtective) }
    /// Are there other entries beside it?
    var isHybrid: Bool { isProtective && entries.contains { $0.isUsed && !$0.isProtective } }

    /// Is this a partition table, and not program code or a file system on the whole disk?
    ///
    /// Status bytes must be known, and an entry must begin on the disk. The first sector of a file system is a table only
    /// when nothing about it is wrong: such sectors are written over a table, and table makers write into such sectors.
    func isPartitionTable(in views: [DiskSectors]) -> Bool {
        guard otherUse != .container, entries.allSatisfy(\.hasKnownStatus) else { return false }
        let used = entries.filter(\.isUsed)
        guard !used.isEmpty else { return false }
        if isProtective { return true }
        return views.contains { disk in
            otherUse == .none ? used.contains { $0.first < disk.count } : isFlawless(used, disk)
        }
    }

    private func isFlawless(_ used: [Entry], _ disk: DiskSectors) -> Bool {
        let sorted = used.sorted { $0.first < $1.first }
        return sorted.allSatisfy { $0.type != 0 && $0.first > 0 && $0.first + $0.count <= disk.count }
            && zip(sorted, sorted.dropFirst()).allSatisfy { $0.first + $0.count <= $1.first }
    }
}
