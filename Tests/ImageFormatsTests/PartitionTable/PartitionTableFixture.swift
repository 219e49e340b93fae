// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport

/// Disks with partition tables, made byte by byte.
struct PartitionTableFixture {
    /// The disk.
    private(set) var bytes: [UInt8]
    /// In bytes.
    let sectorSize: Int

    /// Zeros.
    init(sectors: Int = 8192, sectorSize: Int = 512) {
        bytes = [UInt8](repeating: 0, count: sectors * sectorSize)
        self.sectorSize = sectorSize
    }

    /// An entry of an MBR.
    struct Entry {
        var type: UInt8
        var first: UInt32
        var count: UInt32
        var status: UInt8 = 0

        init(_ type: UInt8, _ first: UInt32, _ count: UInt32, status: UInt8 = 0) {
            (self.type, self.first, self.count, self.status) = (type, first, count, status)
        }

        /// Not in use.
        static let none = Entry(0, 0, 0)
    }

    /// A partition of a GPT.
    struct GPTEntry {
        var first: UInt64
        var last: UInt64
        var name: [UInt16] = []
        /// As on disk: "Linux filesystem".
        var type: [UInt8] = [
            0xAF, 0x3D, 0xC6, 0x0F, 0x83, 0x84, 0x72, 0x47, 0x8E, 0x79, 0x3D, 0x69, 0xD8, 0x47, 0x7D, 0xE4,
        ]

        init(_ first: UInt64, _ last: UInt64, _ name: String = "") {
            (self.first, self.last, self.name) = (first, last, Array(name.utf16))
        }
    }

    /// Writes a little-endian integer.
    mutating func put<T: FixedWidthInteger & UnsignedInteger>(_ value: T, at offset: Int) {
        for index in 0..<(T.bitWidth / 8) {
            bytes[offset + index] = UInt8(truncatingIfNeeded: value >> T(8 * index))
        }
    }

    /// Writes bytes.
    mutating func put(_ value: [UInt8], at offset: Int) {
        bytes.replaceSubrange(offset..<(offset + value.count), with: value)
    }

    /// Makes the disk shorter.
    mutating func cut(toSectors count: Int) { bytes.removeLast(bytes.count - count * sectorSize) }

    /// Writes entries and 55 AA into a sector.
    mutating func putRecord(_ entries: [Entry], at sector: Int = 0) {
        let start = sector * sectorSize
        for (index, entry) in entries.enumerated() {
            let place = start + 446 + 16 * index
            bytes[place] = entry.status
            bytes[place + 4] = entry.type
            put(entry.first, at: place + 8)
            put(entry.count, at: place + 12)
        }
        put([0x55, 0xAA], at: start + 510)
    }

    /// Writes a protective MBR, both headers and both arrays of entries.
    mutating func putGPT(_ entries: [GPTEntry?], entryCount: Int = 128, entrySize: Int = 128) {
        let total = bytes.count / sectorSize
        putRecord([Entry(0xEE, 1, UInt32(total - 1))])
        let arrayByteCount = entryCount * entrySize
        let arraySectors = (arrayByteCount + sectorSize - 1) / sectorSize
        for (place, other, array) in [(1, total - 1, 2), (total - 1, 1, total - 1 - arraySectors)] {
            for (index, entry) in entries.enumerated() {
                guard let entry else { continue }
                let start = array * sectorSize + index * entrySize
                put(entry.type, at: start)
                put([UInt8](repeating: UInt8(truncatingIfNeeded: index + 1), count: 16), at: start + 16)
                put(entry.first, at: start + 32)
                put(entry.last, at: start + 40)
                for (index, unit) in entry.name.enumerated() { put(unit, at: start + 56 + 2 * index) }
            }
            let header = place * sectorSize
            put(Array("EFI PART".utf8), at: header)
            put(0x10000 as UInt32, at: header + 8)
            put(92 as UInt32, at: header + 12)
            put(UInt64(place), at: header + 24)
            put(UInt64(other), at: header + 32)
            put(UInt64(2 + arraySectors), at: header + 40)
            put(UInt64(total - 2 - arraySectors), at: header + 48)
            put([UInt8](repeating: 0x99, count: 16), at: header + 56)
            put(UInt64(array), at: header + 72)
            put(UInt32(entryCount), at: header + 80)
            put(UInt32(entrySize), at: header + 84)
            seal(place)
        }
    }

    /// Computes the checksums of the header in a sector, and of its entries, anew.
    mutating func seal(_ sector: Int) {
        let header = sector * sectorSize
        let start = field(header + 72) * sectorSize
        let byteCount = field(header + 80) * field(header + 84)
        put(TableCRC32.checksum(bytes[start..<(start + byteCount)]), at: header + 88)
        sealHeader(sector)
    }

    /// Computes the checksum of the header in a sector anew; of what lies on the disk when the header claims more.
    mutating func sealHeader(_ sector: Int) {
        let header = sector * sectorSize
        put(0 as UInt32, at: header + 16)
        put(TableCRC32.checksum(bytes[header..<min(bytes.count, header + field(header + 12))]), at: header + 16)
    }

    private func field(_ offset: Int) -> Int { (0..<4).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) } }

    /// What is found on the disk.
    func table(alignment: Int = 1, sectorSize: Int? = nil) throws(FormatError) -> PartitionTable? {
        try PartitionTable(MemoryDevice(bytes, alignment: alignment), sectorSize: sectorSize)
    }

    /// A line for each partition: number, first sector, number of sectors.
    func lines(sectorSize forced: Int? = nil) throws(FormatError) -> [String]? {
        try table(sectorSize: forced)?.partitions.map {
            "\($0.number) \($0.range.offset / UInt64(sectorSize)) \($0.range.length / UInt64(sectorSize))"
        }
    }
}
