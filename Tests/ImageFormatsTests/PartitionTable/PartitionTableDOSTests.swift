// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport
import Testing

@Suite struct PartitionTableDOSTests {
    private typealias Entry = PartitionTableFixture.Entry

    /// A table of records by sector; what Linux 6.1 finds on such a disk of 8192 sectors, without extended partitions;
    /// what the warnings say.
    struct Case: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let records: [(sector: Int, entries: [PartitionTableFixture.Entry])]
        let found: [String]?
        var warnings: [String] = []
    }

    private static let data = Entry(0x83, 8, 100)

    static let asLinux: [Case] = [
        Case(
            testDescription: "beyond the end",
            records: [(0, [Entry(0x83, 64, 1024), Entry(0x83, 8000, 1000), Entry(0x83, 9000, 10), Entry(0x83, 9, 0)])],
            found: ["1 64 1024", "2 8000 192"],
            warnings: ["partition 2 ends at sector 8999", "partition 3 begins at sector 9000"]),
        Case(
            testDescription: "type 0 and start 0, as on hybrid discs",
            records: [(0, [Entry(0, 64, 1024), Entry(0x17, 0, 8192, status: 0x80)])],
            found: ["1 64 1024", "2 0 8192"],
            warnings: ["partition 2 covers the partition table", "partitions 2 and 1 overlap"]),
        Case(
            testDescription: "a chain",
            records: [
                (0, [Entry(0x83, 64, 100), Entry(5, 1000, 2000)]), (1000, [data, Entry(5, 200, 200)]),
                (1200, [data, Entry(5, 400, 100)]), (1400, [Entry(0x83, 8, 50)]),
            ],
            found: ["1 64 100", "5 1008 100", "6 1208 100", "7 1408 50"]),
        Case(
            testDescription: "four entries in a record, the last of them garbage",
            records: [
                (0, [Entry(0x0F, 1000, 2000)]),
                (1000, [data, Entry(0x83, 150, 50), Entry(0x83, 300, 50), Entry(0x83, 3000, 50)]),
            ],
            found: ["5 1008 100", "6 1150 50", "7 1300 50"]),
        Case(
            testDescription: "the link before the partition, and a record without one",
            records: [
                (0, [Entry(0x85, 1000, 2000)]), (1000, [Entry(5, 200, 200)]), (1200, [.none, data]),
            ],
            found: ["5 1208 100"]),
        Case(
            testDescription: "two extended partitions",
            records: [
                (0, [Entry(5, 1000, 1000), Entry(0x0F, 3000, 1000)]), (1000, [data]), (3000, [Entry(0x83, 8, 101)]),
            ],
            found: ["5 1008 100", "6 3008 101"]),
        Case(
            testDescription: "no record in the extended partition",
            records: [(0, [Entry(0x83, 64, 100), Entry(5, 1000, 2000)])], found: ["1 64 100"],
            warnings: ["extended partition 2: sector 1000 is no record"]),
        Case(
            testDescription: "an unknown status in a record",
            records: [
                (0, [Entry(0x83, 64, 100), Entry(5, 1000, 2000)]), (1000, [Entry(0x83, 8, 100, status: 0x11)]),
            ],
            found: ["1 64 100", "5 1008 100"]),
        Case(
            testDescription: "a logical partition of type 0 has a number",
            records: [
                (0, [Entry(5, 1000, 2000)]), (1000, [Entry(0, 8, 100), Entry(5, 200, 200)]), (1200, [data]),
            ],
            found: ["5 1008 100", "6 1208 100"]),
        Case(
            testDescription: "a logical partition that is left out keeps its number",
            records: [
                (0, [Entry(5, 1000, 2000)]), (1000, [Entry(0x83, 9000, 100), Entry(5, 200, 200)]), (1200, [data]),
            ],
            found: ["6 1208 100"],
            warnings: ["partition 5 is not within extended", "partition 5 begins at sector 10000"]),
        Case(
            testDescription: "the chain leaves the disk",
            records: [(0, [Entry(5, 1000, 2000)]), (1000, [data, Entry(5, 9000, 10)])],
            found: ["5 1008 100"], warnings: ["its chain leads to sector 10000, and the disk has 8192"]),
        Case(
            testDescription: "two that are active",
            records: [(0, [Entry(0x83, 64, 100, status: 0x80), Entry(0x83, 200, 100, status: 0x80)])],
            found: ["1 64 100", "2 200 100"]),
        Case(
            testDescription: "overlapping",
            records: [(0, [Entry(0x83, 64, 100), Entry(0x83, 100, 100)])],
            found: ["1 64 100", "2 100 100"], warnings: ["partitions 1 and 2 overlap"]),
        Case(
            testDescription: "an unknown status: no table",
            records: [(0, [Entry(0x83, 64, 100), Entry(0x83, 200, 100, status: 1)])], found: nil),
    ]

    /// Where Linux goes round in circles, up to 251 times.
    static let unlikeLinux: [Case] = [
        Case(
            testDescription: "a loop",
            records: [
                (0, [Entry(5, 1000, 2000)]), (1000, [data, Entry(5, 200, 200)]), (1200, [data, Entry(5, 0, 100)]),
            ],
            found: ["5 1008 100", "6 1208 100"], warnings: ["its chain comes back to sector 1000"]),
        Case(
            testDescription: "an extended partition at the table itself",
            records: [(0, [Entry(0x83, 64, 100), Entry(5, 0, 2000)])], found: ["1 64 100"],
            warnings: ["its chain comes back to sector 0"]),
        Case(
            testDescription: "two entries for the same extended partition",
            records: [(0, [Entry(5, 1000, 2000), Entry(5, 1000, 2000)]), (1000, [data])], found: ["5 1008 100"],
            warnings: ["extended partition 2: its chain comes back"]),
        Case(testDescription: "no entry is in use: no table", records: [(0, [])], found: nil),
        Case(
            testDescription: "all begin beyond the end: no table",
            records: [(0, [Entry(0x83, 8192, 100)])], found: nil),
    ]

    @Test(arguments: asLinux + unlikeLinux)
    func `partitions have the places and the numbers that Linux gives them`(_ disk: Case) throws {
        var fixture = PartitionTableFixture()
        for (sector, entries) in disk.records { fixture.putRecord(entries, at: sector) }
        #expect(try fixture.lines(sectorSize: 512) == disk.found)
        let table = try fixture.table(alignment: 512, sectorSize: 512)
        #expect(table?.warnings.count ?? 0 == disk.warnings.count, "\(table?.warnings ?? [])")
        for (warning, part) in zip(table?.warnings ?? [], disk.warnings) { #expect(warning.contains(part)) }
        if let table { #expect(table.kind == .mbr && table.sectorSize == 512) }
    }

    @Test func `a partition has its type in numbers and in words, and no name`() throws {
        var fixture = PartitionTableFixture()
        fixture.putRecord([Entry(0x83, 64, 8), Entry(0x07, 80, 8), Entry(0xD7, 90, 8)])
        let partitions = try #require(try fixture.table(sectorSize: 512)).partitions
        #expect(partitions.map(\.type) == ["0x83", "0x07", "0xd7"])
        #expect(partitions.map(\.typeName) == ["Linux", "HPFS/NTFS/exFAT", nil])
        #expect(partitions.allSatisfy { $0.name.isEmpty })
    }

    @Test func `more logical partitions than Linux numbers are left out`() throws {
        var fixture = PartitionTableFixture()
        fixture.putRecord([Entry(5, 1000, 7000)])
        for index in 0..<300 {
            fixture.putRecord([Entry(0x83, 2, 2), Entry(5, UInt32(index + 1) * 10, 10)], at: 1000 + 10 * index)
        }
        let table = try #require(try fixture.table())
        #expect(table.partitions.map(\.number) == Array(5...255))
        #expect(table.warnings == ["extended partition 1: logical partitions after 255 are left out"])
    }

    @Test func `a long chain of records without partitions is not followed to its end`() throws {
        var fixture = PartitionTableFixture()
        fixture.putRecord([Entry(5, 1000, 7000)])
        for index in 0..<300 { fixture.putRecord([Entry(5, UInt32(index + 1), 1)], at: 1000 + index) }
        let device = MemoryDevice(fixture.bytes)
        let table = try #require(try PartitionTable(device, sectorSize: 512))
        #expect(table.partitions.isEmpty && table.warnings.count == 1)
        #expect(device.readCount < 120)
    }

    @Test
    func `a sector of the chain that cannot be read ends it with a warning; without the first one nothing is known`()
        throws
    {
        var fixture = PartitionTableFixture()
        fixture.putRecord([Entry(0x83, 64, 8), Entry(5, 1000, 2000)])
        let device = MemoryDevice(fixture.bytes)
        device.faults.unreadableByte = 512_000
        let table = try #require(try PartitionTable(device, sectorSize: 512))
        #expect(table.partitions.count == 1)
        #expect(table.warnings.first?.hasPrefix("extended partition 2: sector 1000 cannot be read") == true)
        device.faults.unreadableByte = 5
        let error = #expect(throws: FormatError.self) { try PartitionTable(device) }
        #expect(error?.code == .unreadable)
    }

    @Test(
        arguments: PartitionTable.sectorSizes,
        ["container", "clone", "file system", "logical", "disk"])
    func `the sector size is that in which the entries lead to something known`(_ size: Int, _ contents: String) throws
    {
        var fixture = PartitionTableFixture(sectors: 1024, sectorSize: size)
        var found = ["1 16 20", "2 200 100"]
        switch contents {
        case "logical":
            fixture.putRecord([Entry(0x83, 16, 20), Entry(5, 200, 800)])
            fixture.putRecord([Entry(0x83, 8, 100), Entry(5, 200, 200)], at: 200)
            fixture.putRecord([Entry(0x83, 8, 100)], at: 400)
            found = ["1 16 20", "5 208 100", "6 408 100"]
        case "disk":
            fixture.putRecord([Entry(0x83, 16, 20), Entry(0x83, 200, 100)])
            fixture.putRecord([Entry(0x83, 8, 16)], at: 200)
        default:
            fixture.putRecord([Entry(0x83, 16, 20), Entry(0x83, 200, 100)])
            let known: [String: (Int, [UInt8])] = [
                "container": (0, Array("LUKS".utf8) + [0xBA, 0xBE, 0, 1]),
                "clone": (0, Array("RBDL".utf8) + [0xBA, 0xBE, 0, 2]),
                "file system": (32768, [1] + Array("CD001".utf8) + [1, 0]),
            ]
            let (offset, bytes) = try #require(known[contents])
            fixture.put(bytes, at: 200 * size + offset)
        }
        #expect(try fixture.table()?.sectorSize == size)
        #expect(try fixture.lines() == found)
        #expect(try fixture.table(sectorSize: size)?.partitions == fixture.table()?.partitions)
    }

    @Test func `where nothing tells the sector size, or something speaks for two of them, none is assumed`() throws {
        let luks = Array("LUKS".utf8) + [0xBA, 0xBE, 0, 2]
        for (entries, containers, sizes) in [
            ([Entry(0x83, 16, 100)], [], "512, 1024, 2048, 4096"), ([Entry(0x83, 16, 1500)], [], "512, 1024, 2048"),
            ([Entry(0x83, 16, 100)], [16 * 512, 16 * 4096], "512, 4096"),
            ([Entry(0x83, 0, 100)], [0x8000], "512, 1024, 2048, 4096"),
            ([Entry(0x83, 16, 100), Entry(0x83, 200, 9000)], [], "512, 1024, 2048, 4096"),
            ([Entry(0x83, 16, 100), Entry(0x83, 200, 9000)], [16 * 512, 16 * 2048], "512, 2048"),
        ] as [([Entry], [Int], String)] {
            var fixture = PartitionTableFixture(sectors: 1024, sectorSize: 4096)
            fixture.putRecord(entries)
            for offset in containers { fixture.put(luks, at: offset) }
            let error = #expect(throws: FormatError.self) { try fixture.table() }
            #expect(error?.code == .unsupported)
            #expect(
                error?.description.contains("between \(sizes) bytes; say sectorSize") == true,
                "\(String(describing: error))")
        }
    }

    @Test
    func
        `a sector size in which partitions end beyond the disk is none, and one in which all are known is more than another`()
        throws
    {
        let luks = Array("LUKS".utf8) + [0xBA, 0xBE, 0, 2]
        var full = PartitionTableFixture()
        full.putRecord([Entry(0x83, 64, 5000)])
        #expect(try full.lines() == ["1 64 5000"])
        var two = PartitionTableFixture()
        // In sectors of 1024, the first one would begin where the second does.
        two.putRecord([Entry(0x83, 512, 512), Entry(0x83, 1024, 1000)])
        two.put(luks, at: 512 * 512)
        two.put(luks, at: 1024 * 512)
        #expect(try two.lines() == ["1 512 512", "2 1024 1000"])
        var shortened = PartitionTableFixture(sectors: 512, sectorSize: 2048)
        shortened.putRecord([Entry(0x83, 16, 100), Entry(0x83, 200, 9000)])
        shortened.put(luks, at: 200 * 2048)
        #expect(try shortened.lines() == ["1 16 100", "2 200 312"])
    }

    @Test func `what is known in a sector size in which the partitions do not fit decides nothing`() throws {
        var fixture = PartitionTableFixture()
        fixture.putRecord([Entry(0x83, 64, 5000)])
        fixture.put(Array("LUKS".utf8) + [0xBA, 0xBE, 0, 2], at: 64 * 1024)
        let error = #expect(throws: FormatError.self) { try fixture.table() }
        #expect(error?.code == .unsupported)
        #expect(try fixture.lines(sectorSize: 512) == ["1 64 5000"])
    }

    @Test func `the caller may know the sector size`() throws {
        var fixture = PartitionTableFixture(sectors: 1024, sectorSize: 4096)
        fixture.putRecord([Entry(0x83, 16, 100)])
        for size in PartitionTable.sectorSizes {
            let table = try #require(try fixture.table(sectorSize: size))
            #expect(table.sectorSize == size)
            #expect(table.partitions.first?.range == ByteRange(offset: UInt64(16 * size), length: UInt64(100 * size)))
        }
        for size in [Int.min, -512, 0, 1, 511, 513, 8192, Int.max] {
            let error = #expect(throws: FormatError.self) { try fixture.table(sectorSize: size) }
            #expect(error?.code == .unsupported)
        }
    }
}
