// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport
import Testing

@Suite struct PartitionTableGPTTests {
    private typealias GPTEntry = PartitionTableFixture.GPTEntry

    private static let entries = [GPTEntry(64, 163, "root"), nil, GPTEntry(200, 299, "b"), GPTEntry(300, 310)]
    private static let lines = ["1 64 100", "3 200 100", "4 300 11"]

    private func fixture(
        _ entries: [PartitionTableFixture.GPTEntry?] = entries, sectors: Int = 8192, sectorSize: Int = 512
    ) -> PartitionTableFixture {
        var fixture = PartitionTableFixture(sectors: sectors, sectorSize: sectorSize)
        fixture.putGPT(entries)
        return fixture
    }

    @Test(arguments: PartitionTable.sectorSizes, [1, 4096])
    func `partitions have the numbers of their entries`(sectorSize: Int, alignment: Int) throws {
        let fixture = fixture(sectors: 1024, sectorSize: sectorSize)
        let table = try #require(try fixture.table(alignment: alignment))
        #expect(table.kind == .gpt && table.sectorSize == sectorSize && table.warnings.isEmpty)
        #expect(try fixture.lines() == Self.lines)
        let first = try #require(table.partitions.first)
        #expect(first.type == "0FC63DAF-8483-4772-8E79-3D69D8477DE4" && first.typeName == "Linux filesystem")
        #expect(table.partitions.map(\.name) == ["root", "b", ""])
        #expect(try fixture.table(sectorSize: sectorSize)?.partitions == table.partitions)
    }

    @Test func `names are printable, whatever is in them, and end at a NUL`() throws {
        var entries = [
            GPTEntry(64, 70, "a\u{1B}[31m\u{202E}b"), GPTEntry(71, 72, "é\u{1F512}"), GPTEntry(73, 74, "x\0y"),
        ]
        entries[2].type = [UInt8](1...16)
        entries.append(GPTEntry(75, 76))
        entries[3].name = [0xD800, 0x41, 0xDC00] + [UInt16](repeating: 0x42, count: 33)
        let partitions = try #require(try fixture(entries).table()).partitions
        #expect(
            partitions.map(\.name) == [
                "a\u{FFFD}[31m\u{FFFD}b", "é\u{1F512}", "x", "\u{FFFD}A\u{FFFD}" + String(repeating: "B", count: 33),
            ])
        #expect(partitions[2].type == "04030201-0605-0807-090A-0B0C0D0E0F10" && partitions[2].typeName == nil)
    }

    @Test(arguments: [(4, 128), (128, 256), (4, 4096), (1000, 128)])
    func `entries may be larger than 128 bytes, and few or many`(count: Int, size: Int) throws {
        var fixture = PartitionTableFixture()
        fixture.putGPT(
            [nil, nil, GPTEntry(2000, 2001)] + (count == 1000 ? [GPTEntry?](repeating: nil, count: 996) : [])
                + [GPTEntry(3000, 3001)], entryCount: count, entrySize: size)
        #expect(try fixture.lines() == ["3 2000 2", "\(count == 1000 ? 1000 : 4) 3000 2"])
    }

    /// The place of a field in the header, its value, what the warning says.
    static let faults: [(offset: Int, value: UInt64, byteCount: Int, said: String)] = [
        (0, 0, 1, "no signature"),
        (12, 91, 4, "91 bytes long"), (12, 513, 4, "513 bytes long"), (12, 0xFFFF_FFFF, 4, "4294967295 bytes long"),
        (24, 2, 8, "says that it is at sector 2"), (40, 8159, 8, "from 8159 to 8158"),
        (72, 8191, 8, "entries are at sector 8191"), (72, .max, 8, "entries are at sector 18446744073709551615"),
        (72, .max / 512, 8, "entries are at sector"),
        (80, 0, 4, "0 entries"), (80, 16385, 4, "16385 entries"), (80, 0xFFFF_FFFF, 4, "4294967295 entries"),
        (84, 0, 4, "of 0 bytes"), (84, 127, 4, "of 127 bytes"), (84, 8192, 4, "of 8192 bytes"),
        (84, 0xFFFF_FFFF, 4, "of 4294967295 bytes"),
    ]

    @Test(arguments: faults)
    func `a header that makes no sense is not used, the backup is`(
        offset: Int, value: UInt64, byteCount: Int, said: String
    ) throws {
        var fixture = fixture()
        for index in 0..<byteCount {
            fixture.put(UInt8(truncatingIfNeeded: value >> UInt64(8 * index)), at: 512 + offset + index)
        }
        fixture.sealHeader(1)
        let table = try #require(try fixture.table())
        #expect(try fixture.lines() == Self.lines)
        #expect(table.warnings.count == 1)
        #expect(table.warnings.first?.contains(said) == true, "\(table.warnings)")
        #expect(table.warnings.first?.contains("backup") == true)
    }

    @Test(arguments: [512 + 56, 1024 + 60, 1024 + 16000])
    func `a wrong checksum of header or entries makes the backup count`(_ place: Int) throws {
        var fixture = fixture()
        fixture.put(0x5A as UInt8, at: place)
        let table = try #require(try fixture.table())
        #expect(table.warnings.count == 1 && table.warnings.first?.contains("checksum") == true)
        #expect(try fixture.lines() == Self.lines)
    }

    @Test func `a damaged or different backup is told`() throws {
        var damaged = fixture()
        damaged.put(0x5A as UInt8, at: 8191 * 512 + 56)
        #expect(try damaged.table()?.warnings.first?.contains("backup of the GPT at sector 8191 is damaged") == true)
        #expect(try damaged.lines() == Self.lines)
        var different = fixture()
        different.put(65 as UInt64, at: 8159 * 512 + 32)
        different.seal(8191)
        #expect(try different.table()?.warnings.first?.contains("are different") == true)
        #expect(try different.lines() == Self.lines)
    }

    @Test(arguments: PartitionTable.sectorSizes)
    func `when neither copy is sound, the error names both faults`(sectorSize: Int) throws {
        var fixture = fixture(sectors: 1024, sectorSize: sectorSize)
        fixture.put(0x5A as UInt8, at: sectorSize + 56)
        fixture.put(0x5A as UInt8, at: 1023 * sectorSize)
        let error = #expect(throws: FormatError.self) { try fixture.table() }
        #expect(error?.code == .damaged)
        #expect(error?.description.contains("at byte \(sectorSize)") == true)
        #expect(error?.description.contains("the checksum of its header is wrong; backup: sector") == true)
    }

    @Test func `an image that lost its end has the partitions that are left`() throws {
        var fixture = fixture([GPTEntry(64, 163), GPTEntry(200, 3000), GPTEntry(4000, 5000)])
        fixture.cut(toSectors: 2048)
        #expect(try fixture.lines() == ["1 64 100", "2 200 1848"])
        let warnings = try #require(try fixture.table()).warnings
        #expect(warnings.count == 3 && warnings[0].contains("not complete"))
        #expect(warnings[1].contains("partition 2 ends") && warnings[2].contains("partition 3 begins"))
    }

    @Test func `a disk that grew is no fault`() throws {
        var fixture = PartitionTableFixture(sectors: 9000)
        fixture.put(self.fixture().bytes, at: 0)
        #expect(try fixture.table()?.warnings == [])
        #expect(try fixture.lines() == Self.lines)
    }

    @Test func `partitions are left out as in Linux, or listed with a warning`() throws {
        let fixture = fixture([
            GPTEntry(64, 163), GPTEntry(100, 9000), GPTEntry(9000, 9100), GPTEntry(300, 200), GPTEntry(2, 10),
            GPTEntry(0, 40), GPTEntry(8150, 8191), GPTEntry(0, .max), GPTEntry(.max, .max),
        ])
        // Linux gives the fourth one a length of 2^64 − 99 sectors.
        #expect(try fixture.lines() == ["1 64 100", "5 2 9", "6 0 41", "7 8150 42"])
        let warnings = try #require(try fixture.table()).warnings
        #expect(warnings.count { $0.contains("is left out") } == 5)
        #expect(warnings.count { $0.contains("is not within the sectors for partitions, 34 to 8158") } == 3)
        #expect(warnings.contains("partitions 6 and 5 overlap"))
    }

    @Test func `many warnings are counted, not told`() throws {
        let fixture = fixture((0..<100).map { GPTEntry(64, 100 + UInt64($0)) })
        let table = try #require(try fixture.table())
        #expect(table.partitions.count == 100 && table.warnings.count == 21)
        #expect(table.warnings.last == "and 79 more warnings about partitions")
    }

    @Test func `the GPT of a disk with a hybrid MBR counts`() throws {
        var fixture = fixture()
        fixture.putRecord([.init(0x83, 100, 200), .init(0xEE, 1, 60), .init(0x83, 400, 20)])
        #expect(try fixture.lines() == Self.lines)
        #expect(try fixture.table()?.warnings.first?.contains("hybrid MBR") == true)
    }

    @Test func `a GPT that the first sector does not announce is a left-over`() throws {
        var fixture = fixture()
        fixture.putRecord([.init(0x83, 100, 200)])
        #expect(try fixture.table(sectorSize: 512)?.kind == .mbr)
        #expect(try fixture.lines(sectorSize: 512) == ["1 100 200"])
        fixture.put([UInt8](repeating: 0, count: 512), at: 0)
        #expect(try fixture.lines() == nil)
    }

    @Test(arguments: PartitionTable.sectorSizes)
    func `the backup, too, tells the sector size`(_ size: Int) throws {
        var fixture = fixture(sectors: 1024, sectorSize: size)
        fixture.put([UInt8](repeating: 0, count: size), at: size)
        #expect(try fixture.lines() == Self.lines)
        #expect(try fixture.table()?.sectorSize == size)
    }

    @Test(arguments: [false, true])
    func `of sound tables for two sector sizes none is taken; the caller decides`(isBackup: Bool) throws {
        // The table for 512 has its entries where they leave room for the header of the other.
        var fixture = PartitionTableFixture()
        fixture.putGPT([GPTEntry(3000, 3100)], entryCount: 8)
        var other = PartitionTableFixture(sectors: 1024, sectorSize: 4096)
        other.putGPT([GPTEntry(64, 163)], entryCount: 8)
        let copied = isBackup ? [(1019 * 4096)..<(1023 * 4096 + 92)] : [4096..<(3 * 4096)]
        for range in copied { fixture.put(Array(other.bytes[range]), at: range.lowerBound) }
        if isBackup { for size in [512, 4096] { fixture.put(0 as UInt8, at: size) } }
        let error = #expect(throws: FormatError.self) { try fixture.table() }
        #expect(error?.code == .unsupported)
        #expect(error?.description.contains("the sector sizes 512 and 4096; say sectorSize") == true)
        #expect(try fixture.table(sectorSize: 512)?.partitions.map(\.range.offset) == [3000 * 512])
        #expect(try fixture.table(sectorSize: 4096)?.partitions.map(\.range.offset) == [64 * 4096])
    }
}
