// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A partition table in the decrypted view: where to look for file systems, and evidence of its own.
///
/// Unlike ``PartitionTable`` it takes what there is: a GPT counts without an MBR that announces it, with entries that are
/// damaged, and without a question about the sector size. Whether noise is taken for a table is what matters here.
struct EvidenceTable {
    /// For a person: "GPT", "backup GPT" or "MBR".
    let name: String
    /// Those that can be read.
    let partitions: [Partition]
    /// The sector that makes it a table has passed the cipher.
    let isEvidence: Bool

    /// Looks for a GPT, then for an MBR.
    static func find(_ reader: inout EvidenceReader) -> EvidenceTable? { gpt(&reader) ?? mbr(&reader) }

    /// The primary table, or the backup at the end of the disk, for sectors of 512 and of 4096 bytes.
    ///
    /// Signature and checksum are 96 bits.
    private static func gpt(_ reader: inout EvidenceReader) -> EvidenceTable? {
        for disk in [512, 4096].map({ DiskSectors(reader.device, sectorSize: $0) }) where disk.count >= 2 {
            for place in [1, disk.count - 1] {
                guard let header = try? GUIDPartitionHeader(disk, at: place) else { continue }
                let entries = try? header.entries(in: disk)
                return EvidenceTable(
                    name: place == 1 ? "GPT" : "backup GPT",
                    partitions: entries.map { GUIDPartitions.list(header, $0, disk).partitions } ?? [],
                    isEvidence: reader.isEvidence(at: place * disk.size, count: 512))
            }
        }
        return nil
    }

    /// The table in the first sector, in units of 512 bytes, with its logical partitions.
    ///
    /// The chance that noise is taken for one is below 6 × 10^-14: 16 bits of magic and 7 bits of status in each of four
    /// entries, one of which must begin on the disk.
    private static func mbr(_ reader: inout EvidenceReader) -> EvidenceTable? {
        let disk = DiskSectors(reader.device, sectorSize: 512)
        guard let sector = reader.fields(at: 0, count: 512), let record = BootRecord(sector),
            record.isPartitionTable(in: [disk])
        else { return nil }
        return EvidenceTable(
            name: "MBR", partitions: DOSPartitions.read(record, in: disk).partitions,
            isEvidence: reader.isEvidence(at: 0, count: 512))
    }
}
