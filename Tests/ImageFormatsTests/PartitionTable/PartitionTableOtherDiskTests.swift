// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport
import Testing

@Suite struct PartitionTableOtherDiskTests {
    private static let withoutTable = [
        "ext2", "ext3", "ext4", "xfs", "btrfs", "ntfs", "fat12", "fat16", "fat32", "exfat", "iso9660", "udf", "f2fs",
        "jfs", "reiserfs", "squashfs", "ufs", "swap", "luks1", "luks2", "lvm", "md-1.2",
    ]

    @Test(arguments: withoutTable)
    func `a file system or a volume on the whole disk is no partition table`(_ name: String) throws {
        let fixture = try ContentCheckFixture(name)
        #expect(try PartitionTable(ContentCheckDevice(size: fixture.size, .zeros, sectors: fixture.sectors)) == nil)
    }

    @Test(arguments: [0, 1, 511, 512, 4096, 1 << 20])
    func `noise, zeros and disks that are too small have none`(_ size: UInt64) throws {
        for filling in [ContentCheckDevice.Background.zeros, .noise(1), .noise(2)] {
            for sectorSize in [nil, 512, 4096] as [Int?] {
                let disk = ContentCheckDevice(size: size, filling, sectors: [:])
                #expect(try PartitionTable(disk, sectorSize: sectorSize) == nil)
            }
        }
    }

    @Test func `the first sector of a file system is a table only when nothing about the table is wrong`() throws {
        let first = try #require(try ContentCheckFixture("fat16").sectors[0])
        let entry = PartitionTableFixture.Entry(0x0C, 64, 100)
        for (entries, count) in [
            ([entry], 1), ([entry, .init(0x83, 200, 8)], 2), ([entry, .init(0x83, 100, 100)], nil),
            ([entry, .init(0x83, 8000, 1000)], nil), ([.init(0, 64, 100)], nil), ([.init(0x0C, 0, 100)], nil),
        ] as [([PartitionTableFixture.Entry], Int?)] {
            var fixture = PartitionTableFixture()
            fixture.put(first, at: 0)
            fixture.putRecord(entries)
            #expect(try fixture.table(sectorSize: 512)?.partitions.count == count)
        }
    }

    @Test func `the header of a LUKS container is no table, even when its noise looks like one`() throws {
        for magic in ["LUKS", "RBDL"] {
            var fixture = PartitionTableFixture()
            fixture.put(Array(magic.utf8) + [0xBA, 0xBE, 0, 1], at: 0)
            fixture.putRecord([.init(0x83, 64, 100)])
            #expect(try fixture.lines() == nil)
        }
    }

    @Test(arguments: Array(stride(from: 512, through: 4608, by: 128)))
    func `the smallest disks do not make it trip`(_ size: Int) throws {
        var fixture = PartitionTableFixture(sectors: 1, sectorSize: size)
        fixture.putRecord([.init(0x83, 0, .max), .init(5, 0, .max), .init(0x0F, 1, .max)])
        #expect(
            try fixture.table(sectorSize: 512)?.partitions.first?.range
                == ByteRange(offset: 0, length: UInt64(size / 512 * 512)))
        #expect(throws: FormatError.self) { try fixture.table() }
        fixture.putRecord([.init(0xEE, 1, .max)])
        #expect(throws: FormatError.self) { try fixture.table() }
    }
}
