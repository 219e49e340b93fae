// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// What a disk that is not encrypted holds, as far as it can be told without a key: its partition table, and file systems and
/// volumes on it and in its partitions.
///
/// Where ``ContentCheck`` asks whether a disk was decrypted with the right key, this is for a person's eyes: what is
/// recognised is told, whether it has passed a cipher or not.
public struct DiskSurvey: Sendable {
    /// A partition with what it begins with.
    public struct Part: Sendable {
        /// Where it is and what the table says of it.
        public let partition: Partition
        /// E.g. "ext4", "LUKS2", "LVM2 physical volume"; empty when nothing is recognised.
        public let contents: [String]
    }

    /// What the disk itself begins with.
    public let contents: [String]
    /// Nil when there is none, or none that can be read.
    public let table: PartitionTable?
    /// Why the partition table cannot be read.
    public let fault: FormatError?
    /// By rising number. No more than ``mostParts`` are looked into.
    public let parts: [Part]

    /// How many partitions are looked into.
    public static let mostParts = DiskStructure.mostPartitions

    /// Looks at a disk. No more than 1 MiB of each part is read, and a few MiB of the partition table.
    ///
    /// - Parameter sectorSize: of the partition table, in bytes; nil: found out.
    public init(_ disk: any BlockDevice, sectorSize: Int?) {
        contents = DiskStart.volumes(disk, ByteRange(offset: 0, length: disk.size) ?? .empty)
        do throws(FormatError) {
            table = try PartitionTable(disk, sectorSize: sectorSize)
            fault = nil
        } catch {
            table = nil
            fault = error
        }
        parts = (table?.partitions ?? []).enumerated().map { index, partition in
            Part(
                partition: partition,
                contents: index < Self.mostParts && partition.range.offset > 0
                    ? DiskStart.volumes(disk, partition.range) : [])
        }
    }
}
