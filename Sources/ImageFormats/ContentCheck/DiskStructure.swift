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
        var found: [String] = []
        let disk = Volume(offset: 0, length: reader.size, number: nil)
        var partitions: [Volume] = []
        if let table = GUIDPartitionTable(&reader) {
            partitions = table.partitions
            if table.isEvidence { found.append(describe(table.isBackup ? "backup GPT" : "GPT", partitions)) }
        } else if let table = MasterBootRecord(&reader) {
            partitions = table.partitions
            if table.isEvidence { found.append(describe("MBR", partitions)) }
        }
        // Hybrid discs and old BSDs have partitions that are the disk.
        for volume in [disk] + partitions.prefix(mostPartitions).filter({ $0.offset > 0 }) {
            for name in Signature.recognise(volume, &reader) {
                found.append(volume.number.map { "\(name) in partition \($0)" } ?? name)
            }
        }
        if found.isEmpty, BootCode.isPresent(&reader) { found.append("boot code") }
        return found
    }

    private static func describe(_ table: String, _ partitions: [Volume]) -> String {
        "\(table), \(partitions.count) partition\(partitions.count == 1 ? "" : "s")"
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
