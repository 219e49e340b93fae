// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The header of a GPT, the primary one or the backup.
///
/// Source: UEFI specification, "GPT Header". Little-endian. The place of everything is a number of a sector.
struct GUIDPartitionHeader {
    /// Of this header.
    let place: UInt64
    /// Of the other one.
    let alternate: UInt64
    /// What partitions may occupy.
    let usable: ClosedRange<UInt64>
    let diskGUID: [UInt8]
    let entriesChecksum: UInt32
    let entryCount: Int
    /// In bytes.
    let entrySize: Int
    /// Of the first sector of the entries.
    private let entriesPlace: UInt64

    /// Why there is no header, or one that cannot be trusted.
    struct Fault: Error {
        /// "… is damaged" or the like, without the place.
        let reason: String
        /// There is not even a signature.
        var isAbsent = false
    }

    private static let mostEntries: UInt32 = 16384
    private static let entrySizes: [UInt32] = [128, 256, 512, 1024, 2048, 4096]
    /// In bytes.
    private static let mostEntryBytes = 4 << 20

    /// Reads the header in a sector; it has a checksum.
    init(_ disk: DiskSectors, at place: UInt64) throws(Fault) {
        guard let sector = try Self.read(disk, at: place, count: Int(disk.size)) else {
            throw Fault(reason: "the disk has no sector \(place)", isAbsent: true)
        }
        guard sector.has("EFI PART", at: 0) else {
            throw Fault(reason: "sector \(place) has no signature of a GPT", isAbsent: true)
        }
        try Self.check(sector, disk)
        guard sector.little(24, UInt64.self) == place else {
            throw Fault(reason: "its header says that it is at sector \(sector.little(24, UInt64.self))")
        }
        let first = sector.little(40, UInt64.self)
        let last = sector.little(48, UInt64.self)
        guard first <= last else { throw Fault(reason: "its usable sectors are from \(first) to \(last)") }
        let count = sector.little(80, UInt32.self)
        let size = sector.little(84, UInt32.self)
        guard (1...Self.mostEntries).contains(count), Self.entrySizes.contains(size),
            Int(count) * Int(size) <= Self.mostEntryBytes
        else { throw Fault(reason: "it has \(count) entries of \(size) bytes") }
        self.place = place
        alternate = sector.little(32, UInt64.self)
        usable = first...last
        diskGUID = Array(sector.field(56, 16))
        entriesChecksum = sector.little(88, UInt32.self)
        entryCount = Int(count)
        entrySize = Int(size)
        entriesPlace = sector.little(72, UInt64.self)
    }

    /// Size and checksum of the header. The checksum counts as zero in what it covers.
    private static func check(_ sector: SuperblockBytes, _ disk: DiskSectors) throws(Fault) {
        let length = sector.little(12, UInt32.self)
        guard length >= 92, length <= disk.size else { throw Fault(reason: "its header is \(length) bytes long") }
        let covered = sector.field(0, 16) + [0, 0, 0, 0] + sector.field(20, Int(length) - 20)
        guard CRC32.checksum(covered) == sector.little(16, UInt32.self) else {
            throw Fault(reason: "the checksum of its header is wrong")
        }
    }

    /// Reads the entries, `entryCount` of them, one after the other; whether they are sound is another question.
    func entries(in disk: DiskSectors) throws(Fault) -> SuperblockBytes {
        guard let entries = try Self.read(disk, at: entriesPlace, count: entryCount * entrySize) else {
            throw Fault(reason: "its entries are at sector \(entriesPlace), and the disk has \(disk.count)")
        }
        return entries
    }

    /// Compares the checksum of the entries.
    func check(_ entries: SuperblockBytes) throws(Fault) {
        guard CRC32.checksum(entries.field(0, entryCount * entrySize)) == entriesChecksum else {
            throw Fault(reason: "the checksum of its entries is wrong")
        }
    }

    private static func read(_ disk: DiskSectors, at place: UInt64, count: Int) throws(Fault) -> SuperblockBytes? {
        do throws(BlockError) {
            return try disk.bytes(at: place, count: count)
        } catch {
            throw Fault(reason: "it cannot be read: \(error)")
        }
    }
}
