// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport
import Testing

@Suite struct ContentCheckStructureTests {
    private static let known = [
        ("ext2", ["ext2"]), ("ext3", ["ext3"]), ("ext4", ["ext4"]), ("xfs", ["XFS"]), ("btrfs", ["btrfs"]),
        ("ntfs", ["NTFS"]), ("fat12", ["FAT12"]), ("fat16", ["FAT16"]), ("fat32", ["FAT32"]), ("exfat", ["exFAT"]),
        ("iso9660", ["ISO 9660"]), ("udf", ["UDF"]), ("f2fs", ["F2FS"]), ("jfs", ["JFS"]),
        ("reiserfs", ["ReiserFS"]), ("squashfs", ["SquashFS"]), ("ufs", ["UFS1"]), ("swap", ["Linux swap"]),
        ("luks1", ["LUKS1"]), ("luks2", ["LUKS2"]), ("lvm", ["LVM2 physical volume"]),
        ("md-1.2", ["Linux RAID member"]),
        (
            "mbr-4",
            [
                "MBR, 4 partitions", "exFAT in partition 1", "ext2 in partition 2", "ext4 in partition 3",
                "Linux swap in partition 4",
            ]
        ),
        (
            "mbr-logical",
            [
                "MBR, 4 partitions", "ext4 in partition 1", "ext3 in partition 5", "NTFS in partition 6",
                "Linux swap in partition 7",
            ]
        ),
        ("gpt", ["GPT, 3 partitions", "FAT32 in partition 1", "ext4 in partition 2", "LUKS2 in partition 3"]),
    ]

    private func fixture(_ name: String, without lost: [UInt64] = []) throws -> (size: UInt64, [UInt64: [UInt8]]) {
        let fixture = try ContentCheckFixture(name)
        return (fixture.size, fixture.sectors.filter { !lost.contains($0.key) })
    }

    @Test(arguments: known)
    func `the sectors that identify a disk are enough, with noise all around`(name: String, recognised: [String]) throws
    {
        let (size, sectors) = try fixture(name)
        let check = ContentCheck.examine(ContentCheckDevice(size: size, .noise(1), sectors: sectors))
        #expect(check.verdict == .plausible)
        #expect(check.recognised == recognised)
        #expect(check.summary == recognised.joined(separator: "; "))
    }

    @Test(arguments: known)
    func `the same with zeros all around`(name: String, recognised: [String]) throws {
        let (size, sectors) = try fixture(name)
        #expect(ContentCheck.examine(ContentCheckDevice(size: size, .zeros, sectors: sectors)).recognised == recognised)
    }

    @Test(arguments: known)
    func `what stands in compressed clusters is no evidence`(name: String, recognised: [String]) throws {
        let (size, sectors) = try fixture(name)
        let disk = ContentCheckDevice(
            size: size, .noise(1), sectors: sectors, extentLength: 512,
            kind: { sectors[$0] == nil ? .data : .compressed })
        let check = ContentCheck.examine(disk)
        #expect(check.verdict == .implausible)
        #expect(check.recognised.isEmpty)
    }

    @Test func `a partition table in a compressed cluster shows the way to an encrypted file system`() throws {
        let (size, sectors) = try fixture("mbr-logical")
        let disk = ContentCheckDevice(
            size: size, .noise(1), sectors: sectors, extentLength: 512,
            kind: { [0, 133_120, 266_240, 2050].contains($0) ? .compressed : .data })
        #expect(
            ContentCheck.examine(disk).recognised == [
                "ext3 in partition 5", "NTFS in partition 6", "Linux swap in partition 7",
            ])
    }

    @Test func `the backup of a GUID partition table is found when the primary is lost`() throws {
        let (size, sectors) = try fixture("gpt", without: [0, 1, 2])
        let check = ContentCheck.examine(ContentCheckDevice(size: size, .noise(1), sectors: sectors))
        #expect(check.recognised.first == "backup GPT, 3 partitions")
        #expect(check.recognised.count == 4)
    }

    @Test func `a GUID partition table with a wrong checksum is none`() throws {
        var (size, sectors) = try fixture("gpt")
        for sector in [1, size / 512 - 1] { sectors[sector]?[40] ^= 1 }
        let check = ContentCheck.examine(ContentCheckDevice(size: size, .noise(1), sectors: sectors))
        #expect(check.recognised == ["MBR, 1 partition"])
    }

    /// What has no fixture: the few bytes that are checked, by their place on a disk of 1 MiB.
    private static let handmadeDisks: [(String, [(offset: Int, bytes: [UInt8])])] = [
        ("BitLocker", [(3, Array("-FVE-FS-".utf8))]),
        ("ReFS", [(3, Array("ReFS\0\0\0\0".utf8)), (16, Array("FSRS".utf8))]),
        ("APFS", [(32, Array("NXSB".utf8)), (36, [0, 0x10, 0, 0])]),
        ("HFS+", [(1024, Array("H+".utf8)), (1026, [0, 4]), (1064, [0, 0, 0x10, 0])]),
        ("HFS+", [(1024, Array("HX".utf8)), (1026, [0, 5]), (1064, [0, 0, 0x10, 0])]),
        ("UFS2", [(65584, [0, 0x80, 0, 0, 0, 0x10, 0, 0]), (66908, [0x19, 0x01, 0x54, 0x19])]),
        ("Reiser4", [(65536, Array("ReIsEr4\0".utf8))]),
        ("Linux swap", [(4086, Array("SWAP-SPACE".utf8))]),
        ("Linux swap", [(65526, Array("SWAPSPACE2".utf8))]),
        ("BSD disklabel", [(512, [0x57, 0x45, 0x56, 0x82]), (644, [0x57, 0x45, 0x56, 0x82])]),
        (
            "Linux RAID member",  // 0.90
            [(0xF_0000, [0xFC, 0x4E, 0x2B, 0xA9, 0, 0, 0, 0, 90, 0, 0, 0])]
        ),
        (
            "Linux RAID member",  // 1.0
            [(0xF_E000, [0xFC, 0x4E, 0x2B, 0xA9, 1, 0, 0, 0]), (0xF_E090, [0xF0, 0x07])]
        ),
    ]

    @Test(arguments: handmadeDisks)
    func `what has no fixture is recognised by the fields that its documentation gives`(
        name: String, fields: [(offset: Int, bytes: [UInt8])]
    ) {
        var sectors: [UInt64: [UInt8]] = [:]
        for (offset, bytes) in fields {
            var sector = sectors[UInt64(offset / 512)] ?? [UInt8](repeating: 0, count: 512)
            sector.replaceSubrange((offset % 512)..<(offset % 512 + bytes.count), with: bytes)
            sectors[UInt64(offset / 512)] = sector
        }
        let disk = ContentCheckDevice(size: 1 << 20, .noise(1), sectors: sectors)
        #expect(ContentCheck.examine(disk).recognised == [name])
    }

    /// Of a large disk that stores little.
    private static func verdict(_ seed: UInt64, _ sectors: [UInt64: [UInt8]]) -> ContentCheck.Verdict {
        let disk = ContentCheckDevice(
            size: 1 << 40, .noise(seed), sectors: sectors, extentLength: 8192,
            kind: { $0 == 0 ? .data : .unallocated })
        return ContentCheck.examine(disk).verdict
    }

    @Test(arguments: 1...100 as ClosedRange<UInt64>)
    func `the two bytes at the end of a boot sector are not enough`(seed: UInt64) {
        let sector = SeededGenerator(seed: seed).bytes(510) + [0x55, 0xAA]
        #expect(Self.verdict(seed, [0: sector]) == .implausible)
    }

    @Test(arguments: 1...100 as ClosedRange<UInt64>)
    func `the magic of ext4 amid noise is not enough`(seed: UInt64) {
        var sector = SeededGenerator(seed: seed).bytes(512)
        sector.replaceSubrange(56..<58, with: [0x53, 0xEF])
        #expect(Self.verdict(seed, [2: sector]) == .implausible)
    }

    @Test func `boot code without a partition table is named`() {
        let code = Array("GRUB loading, please wait... ".utf8)
        let sector = (0..<510).map { code[$0 % code.count] } + [0x55, 0xAA]
        let check = ContentCheck.examine(ContentCheckDevice(size: 1 << 20, .noise(1), sectors: [0: sector]))
        #expect(check.recognised == ["boot code"])
    }

    @Test func `never written clusters cannot pass for a partition table`() {
        // The block that every such sector repeats, chosen so that all four entries are in order.
        let block: [UInt8] = [
            0x31, 0x9C, 0x83, 0xE7, 0x5D, 0x02, 0x17, 0x00, 0x64, 0xB9, 0x0E, 0x2A, 0x71, 0x48, 0x80, 0x5F,
        ]
        var sector = (0..<32).flatMap { (_: Int) in block }
        sector.replaceSubrange(510..<512, with: [0x55, 0xAA])
        let disk = ContentCheckDevice(size: 1 << 40, .neverWritten(1), sectors: [0: sector])
        #expect(ContentCheck.examine(disk).verdict == .cannotTell)
    }
}
