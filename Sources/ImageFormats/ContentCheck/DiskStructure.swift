// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Finds partition tables, and file systems and volume labels on the disk and in its partitions.
///
/// A partition table that has not passed the cipher shows where partitions are, but is not listed.
enum DiskStructure {
    /// More partitions than this are not looked into.
    static let mostPartitions = 64

    /// What was recognised in bytes that have passed the cipher.
    static func recognise(_ reader: inout EvidenceReader) -> [String] {
        let table = EvidenceTable.find(&reader)
        var found = table.flatMap { $0.isEvidence ? [describe($0)] : nil } ?? []
        found += Signature.recognise(ByteRange(offset: 0, length: reader.size) ?? .empty, &reader)
        // Hybrid discs and old BSDs have partitions that are the disk.
        for partition in (table?.partitions ?? []).prefix(mostPartitions) where partition.range.offset > 0 {
            found += Signature.recognise(partition.range, &reader).map { "\($0) in partition \(partition.number)" }
        }
        if found.isEmpty, BootCode.isPresent(&reader) { found.append("boot code") }
        return found
    }

    private static func describe(_ table: EvidenceTable) -> String {
        "\(table.name), \(CountText.of(table.partitions.count, "partition"))"
    }
}

/// Program code in the first sector.
private enum BootCode {
    /// Is there a sector that ends as boot sectors do, and is not noise?
    static func isPresent(_ reader: inout EvidenceReader) -> Bool {
        guard let sector = reader.bytes(at: 0, count: 512), sector.suffix(2) == [0x55, 0xAA] else { return false }
        return sector.withBytes { SectorCharacter($0) } == .structured && reader.isEvidence(at: 0, count: 512)
    }
}
