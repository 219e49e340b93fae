// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing

/// Physical volumes that LVM has made: Tests/Fixtures/lvm.
@Suite struct LVMVolumeTests {
    private func two(_ numbers: [UInt64] = [1, 2]) throws -> LVMVolumeGroup {
        let found = try numbers.map { number in
            let device = try LVMTestDevice(number, fixture: "two-\(number)")
            return try #require(try LVMPhysicalVolume.find(device, name: "partition \(number)"))
        }
        let assembly = LVMAssembly(found)
        #expect(assembly.faults == [])
        return try #require(assembly.groups.first)
    }

    private func volume(_ name: String, in group: LVMVolumeGroup) throws -> LVMLogicalVolume {
        try #require(group.volumes.first { $0.name == name })
    }

    @Test func `all that people see of a group is there, with its type and size, and nothing else`() throws {
        let group = try two()
        #expect(group.name == "two")
        #expect(group.places == ["partition 1", "partition 2"])
        let found = group.volumes.map { "\($0.path) \($0.type) \($0.size >> 10)" }
        #expect(
            found == [
                "two/linear linear, striped 8192", "two/odd-name_1.x linear 1024", "two/striped striped 4096",
                "two/fine striped 2048", "two/secret linear 8192", "two/origin linear 1024",
                "two/frozen snapshot 1280", "two/raid1 raid1 1024", "two/raid0 raid0 1024", "two/mirror mirror 1024",
                "two/pool thin-pool 4096", "two/thin thin 8192",
            ])
    }

    @Test func `a volume of several segments is read from where its metadata says`() throws {
        let disk = try volume("linear", in: two()).disk()
        #expect(disk.size == 8 << 20)
        // Of 256 KiB are an extent of 512 sectors; data begins at sector 2048. By the text: 12 extents from extent 0 of pv0,
        // 8 from 16 of pv1, 8 from 24 of pv0, then 4 in two stripes, from 32 of pv0 and 24 of pv1, in chunks of 128 KiB.
        let extents: [(offset: Int, volume: UInt64, extent: UInt64, sector: UInt64)] = [
            (0, 1, 0, 0), (3 * 1024, 2, 16, 0), (5 * 1024, 1, 24, 0), (7 * 1024, 1, 32, 0),
            (7 * 1024 + 128, 2, 24, 0), (7 * 1024 + 256, 1, 32, 256), (7 * 1024 + 640, 2, 25, 0),
            (5 * 1024 - 256, 2, 23, 0), (8 * 1024 - 128, 2, 25, 256),
        ]
        for (offset, volume, extent, sector) in extents {
            #expect(
                try disk.origin(at: UInt64(offset) << 10)
                    == LVMOrigin(volume: volume, sector: 2048 + 512 * extent + sector))
        }
        // Over the end of a segment in one read.
        let both = try disk.read(count: 1024, at: 3 << 20 - 512)
        #expect(both.prefix(3) == [0xFF, 0x1F, 0] && both[512...].prefix(5) == [0, 0x28, 0, 0, 2])
    }

    @Test func `stripes take turns`() throws {
        let disk = try volume("fine", in: two()).disk()
        // Chunks of 4 KiB, from extent 20 of pv0 and 12 of pv1.
        for chunk in 0..<512 as Range<UInt64> {
            let first: UInt64 = 2048 + 512 * (chunk % 2 == 0 ? 20 : 12)
            #expect(
                try disk.origin(at: chunk << 12)
                    == LVMOrigin(volume: 1 + chunk % 2, sector: first + chunk / 2 * 8))
        }
    }

    @Test(arguments: [
        ("frozen", "logical volume two/frozen is a snapshot of origin"), ("raid1", "two/raid1 is of type raid1"),
        ("raid0", "two/raid0 is of type raid0"), ("mirror", "two/mirror is of type mirror"),
        ("pool", "two/pool is of type thin-pool"), ("thin", "two/thin is of type thin"),
    ])
    func `what is neither linear nor striped is refused by name`(_ name: String, _ reason: String) throws {
        let volume = try volume(name, in: two())
        let error = try #require(throws: FormatError.self) { try volume.disk() }
        #expect(error.code == .unsupported && error.description.contains(reason), "\(error)")
        #expect(error.description.contains("which nbdecrypt does not read; serve the whole disk to a Linux machine"))
    }

    @Test
    func `cache, writecache, RAID with integrity and VDO are refused by name, and nothing of what they lie on is seen`()
        throws
    {
        let device = try LVMTestDevice(1, fixture: "kinds")
        let physical = try #require(try LVMPhysicalVolume.find(device, name: "disk"))
        let assembly = LVMAssembly([physical])
        #expect(assembly.faults == [])
        let group = try #require(assembly.groups.first)
        #expect(
            group.volumes.map { "\($0.path) \($0.type)" } == [
                "kinds/plain linear", "kinds/cached cache", "kinds/written writecache", "kinds/checked raid1",
                "kinds/deduped vdo", "kinds/vpool vdo-pool",
            ])
        #expect(try group.volumes[0].disk().origin(at: 0) == LVMOrigin(volume: 1, sector: 2048))
        for volume in group.volumes.dropFirst() {
            let error = try #require(throws: FormatError.self) { try volume.disk() }
            #expect(error.code == .unsupported)
            #expect(
                error.description.hasPrefix("logical volume \(volume.path) is of type \(volume.type), which nbdecrypt"))
        }
    }

    @Test func `a volume that needs a physical volume on another disk is refused, and others are read`() throws {
        let group = try two([1])
        #expect(group.places == ["partition 1"])
        #expect(try volume("secret", in: group).disk().origin(at: 0) == LVMOrigin(volume: 1, sector: 2048 + 512 * 34))
        for name in ["linear", "striped", "odd-name_1.x"] {
            let error = try #require(throws: FormatError.self) { try volume(name, in: group).disk() }
            #expect(error.code == .unsupported)
            #expect(error.description.hasPrefix("logical volume two/\(name) needs a physical volume that is not on"))
            #expect(
                error.description.contains(", /dev/loop1 when the group was last changed); open a disk"), "\(error)")
        }
    }

    @Test func `a text that goes on at the beginning of its area is read, from either area`() throws {
        let device = try LVMTestDevice(1, fixture: "whole")
        let physical = try #require(try LVMPhysicalVolume.find(device, name: "disk"))
        let group = try #require(LVMAssembly([physical]).groups.first)
        #expect(group.volumes.map(\.path) == ["whole/data", "whole/more"])
        #expect(try group.volumes[1].disk().size == 1028 << 10)
        for area in [4096, 16_744_448] as [UInt64] {
            let fixture = try ContentCheckFixture("whole", in: "lvm")
            var sectors = fixture.sectors
            sectors[area / 512] = [UInt8](repeating: 0, count: 512)
            let damaged = LVMTestDevice(1, size: fixture.size, sectors: sectors)
            let assembly = LVMAssembly([try #require(try LVMPhysicalVolume.find(damaged, name: "disk"))])
            #expect(assembly.groups.first?.volumes.count == 2)
            let sentence =
                "disk: LVM metadata area: signature at byte \(area + 4): found another, allowed that of LVM2"
            #expect(assembly.faults.first?.description.hasPrefix(sentence) == true, "\(assembly.faults)")
        }
    }

    @Test func `a disk that is cut short has the volumes that end before`() throws {
        let device = try LVMTestDevice(1, fixture: "two-1", size: 10 << 20)
        let physical = try #require(try LVMPhysicalVolume.find(device, name: "partition 1"))
        let group = try #require(LVMAssembly([physical]).groups.first)
        let error = try #require(throws: FormatError.self) { try volume("secret", in: group).disk() }
        #expect(error.description.contains("of partition 1, which is cut short: it has 10485760 bytes"), "\(error)")
    }
}
