// SPDX-License-Identifier: Apache-2.0

/// A GUID partition table: the primary one, or the backup at the end of the disk when that one is lost.
///
/// Source: UEFI specification, "GUID Partition Table (GPT) Disk Layout".
struct GUIDPartitionTable {
    /// Partitions in use; the others do not count.
    let partitions: [Volume]
    /// The header has passed the cipher.
    let isEvidence: Bool
    /// The primary table was not found.
    let isBackup: Bool

    /// Tables have 128 entries; one that claims more is read this far.
    private static let mostEntries: UInt32 = 128

    /// Looks at the second sector of the disk, for sectors of 512 and of 4096 bytes, and at the last.
    init?(_ reader: inout EvidenceReader) {
        for sectorSize in [512 as UInt64, 4096] where reader.size >= 2 * sectorSize {
            for offset in [sectorSize, (reader.size / sectorSize - 1) * sectorSize] {
                guard let header = reader.fields(at: offset, count: 512), Self.isHeader(header) else { continue }
                partitions = Self.entries(header, sectorSize, &reader)
                isEvidence = reader.isEvidence(at: offset, count: 512)
                isBackup = offset != sectorSize
                return
            }
        }
        return nil
    }

    /// Eight bytes of magic and a checksum: 96 bits.
    private static func isHeader(_ header: SuperblockBytes) -> Bool {
        let length = Int(header.little(12, UInt32.self))
        guard header.has("EFI PART", at: 0), (92...512).contains(length) else { return false }
        let checked = header.field(0, 16) + [0, 0, 0, 0] + header.field(20, length - 20)
        return CRC32.checksum(checked) == header.little(16, UInt32.self)
    }

    private static func entries(
        _ header: SuperblockBytes, _ sectorSize: UInt64, _ reader: inout EvidenceReader
    ) -> [Volume] {
        let (start, overflow) = header.little(72, UInt64.self).multipliedReportingOverflow(by: sectorSize)
        let count = Int(min(mostEntries, header.little(80, UInt32.self)))
        let size = Int(header.little(84, UInt32.self))
        guard !overflow, (128...512).contains(size), let table = reader.fields(at: start, count: count * size) else {
            return []
        }
        return (0..<count).compactMap { index in
            let entry = index * size
            guard !table.isZero(entry, 16) else { return nil }
            let first = table.little(entry + 32, UInt64.self)
            let last = table.little(entry + 40, UInt64.self)
            let (offset, tooFar) = first.multipliedReportingOverflow(by: sectorSize)
            guard first <= last, !tooFar, offset < reader.size else { return nil }
            let available = (reader.size - offset) / sectorSize
            let sectors = available > last - first ? last - first + 1 : available
            return Volume(offset: offset, length: sectors * sectorSize, number: index + 1)
        }
    }
}
