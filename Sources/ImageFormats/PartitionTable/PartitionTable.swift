// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The partitions of a disk: those of a GUID partition table (GPT) or of a DOS partition table (MBR).
///
/// What Linux would list is listed, under the same numbers. A range never leaves the disk, whatever the table says, and
/// no more than a few MiB are read. Where this differs from Linux: docs/formats/partitions.md.
public struct PartitionTable: Sendable {
    /// The kind of a table.
    public enum Kind: Sendable {
        /// A DOS partition table in the first sector, with its logical partitions.
        case mbr
        /// A GUID partition table.
        case gpt
    }

    /// GPT also when there is a hybrid MBR, whose partitions do not count then.
    public let kind: Kind
    /// The unit of the table, in bytes.
    public let sectorSize: Int
    /// In the order of their numbers; extended partitions are not among them, only what they hold.
    public let partitions: [Partition]
    /// Sentences for a person, 20 at most and one that counts the others; printable.
    public let warnings: [String]

    /// The sector sizes that a disk may have, in bytes.
    public static let sectorSizes = [512, 1024, 2048, 4096]

    /// Reads the table of a disk; nil when the disk has none.
    ///
    /// - Parameters:
    ///   - disk: may have any alignment.
    ///   - sectorSize: of the disk, in bytes: 512, 1024, 2048 or 4096; nil finds out which one it is.
    /// - Throws: ``FormatError``: `unreadable` when the first sector cannot be read, `damaged` when the first sector
    ///   says that the disk has a GPT and no copy of it is sound, `unsupported` for another sector size, or when the disk
    ///   does not tell which one it is.
    public init?(_ disk: any BlockDevice, sectorSize: Int? = nil) throws(FormatError) {
        if let sectorSize, !Self.sectorSizes.contains(sectorSize) {
            throw .unsupported("partitions: \(sectorSize) is not a sector size: choose 512, 1024, 2048 or 4096")
        }
        let views = (sectorSize.map { [$0] } ?? Self.sectorSizes).map { DiskSectors(disk, sectorSize: $0) }
        let first: SuperblockBytes?
        do throws(BlockError) {
            first = try views[0].bytes(at: 0, count: 512)
        } catch {
            throw .unreadable("partitions: the first sector of the disk cannot be read: \(error)")
        }
        guard let first, let record = BootRecord(first), record.isPartitionTable(in: views) else { return nil }
        let found: PartitionList
        if record.isProtective {
            kind = .gpt
            found = try GUIDPartitions.find(in: views, isHybrid: record.isHybrid)
        } else {
            kind = .mbr
            found = DOSPartitions.read(record, in: try DOSSectorSize.choose(for: record, from: views, on: disk))
        }
        self.sectorSize = Int(found.sectors.size)
        partitions = found.partitions.sorted { $0.number < $1.number }
        warnings = found.warningsWithOverlaps()
    }
}
