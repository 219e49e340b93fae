// SPDX-License-Identifier: Apache-2.0

/// A DOS partition table in the first sector, and the logical partitions that hang on it.
///
/// Layout: bytes 446 to 509 are four entries of 16 bytes (status, first CHS, type, last CHS, first sector, number of
/// sectors), bytes 510 and 511 are 55 AA. Sectors are 512 bytes.
struct MasterBootRecord {
    /// Primary partitions that are in use, without the extended ones, then the logical ones.
    let partitions: [Volume]
    /// The table has passed the cipher.
    let isEvidence: Bool

    /// Linux looks no further either, give or take a few.
    private static let mostLogical = 60

    /// Reads the table.
    ///
    /// The chance that noise is taken for one is below 6 × 10^-14: 16 bits of magic, 7 bits of status in each of four
    /// entries, and every entry that is not empty must have a type, a length and a start within the disk.
    init?(_ reader: inout EvidenceReader) {
        guard let sector = reader.fields(at: 0, count: 512),
            let entries = Self.entries(sector, diskSize: reader.size), !entries.allSatisfy(\.isEmpty)
        else { return nil }
        isEvidence = reader.isEvidence(at: 0, count: 512)
        var volumes: [Volume] = []
        for (index, entry) in entries.enumerated() where !entry.isEmpty && !entry.isExtended {
            volumes.append(entry.volume(relativeTo: 0, number: index + 1))
        }
        for entry in entries where entry.isExtended { Self.appendLogical(in: entry, to: &volumes, &reader) }
        partitions = volumes
    }

    /// Follows the chain of tables in an extended partition.
    ///
    /// Every table has an entry for one logical partition, whose start counts from that table, and one for the next
    /// table, whose start counts from the extended partition. Nothing stops a chain from coming back: the number of
    /// tables does.
    private static func appendLogical(in extended: Entry, to volumes: inout [Volume], _ reader: inout EvidenceReader) {
        let base = extended.firstByte
        var table = base
        for number in 5..<(5 + mostLogical) {
            guard let sector = reader.fields(at: table, count: 512),
                let entries = entries(sector, diskSize: reader.size)
            else { return }
            guard let logical = entries.first(where: { !$0.isEmpty && !$0.isExtended }) else { return }
            let volume = logical.volume(relativeTo: table, number: number)
            guard !volumes.contains(where: { $0.offset == volume.offset }) else { return }
            volumes.append(volume)
            guard let next = entries.first(where: \.isExtended) else { return }
            table = base + next.firstByte
        }
    }

    /// The four entries; nil when this is no partition table.
    private static func entries(_ sector: SuperblockBytes, diskSize: UInt64) -> [Entry]? {
        guard sector.little(510, UInt16.self) == 0xAA55 else { return nil }
        let entries = (0..<4).map { Entry(sector, at: 446 + 16 * $0) }
        return entries.allSatisfy { $0.isSound(diskSize) } ? entries : nil
    }
}

/// One entry of a DOS partition table.
private struct Entry {
    let isEmpty: Bool
    private let status: UInt8
    private let type: UInt8
    private let firstSector: UInt32
    private let sectorCount: UInt32

    init(_ sector: SuperblockBytes, at offset: Int) {
        isEmpty = sector.isZero(offset, 16)
        status = sector.byte(offset)
        type = sector.byte(offset + 4)
        firstSector = sector.little(offset + 8, UInt32.self)
        sectorCount = sector.little(offset + 12, UInt32.self)
    }

    /// 32 bits of sectors: neither this nor a sum of two overflows.
    var firstByte: UInt64 { UInt64(firstSector) * 512 }
    /// DOS, Windows with LBA, Linux.
    var isExtended: Bool { [0x05, 0x0F, 0x85].contains(type) }

    func isSound(_ diskSize: UInt64) -> Bool {
        status & 0x7F == 0 && (isEmpty || type != 0 && sectorCount != 0 && firstByte < diskSize)
    }

    func volume(relativeTo table: UInt64, number: Int) -> Volume {
        Volume(offset: table + firstByte, length: UInt64(sectorCount) * 512, number: number)
    }
}
