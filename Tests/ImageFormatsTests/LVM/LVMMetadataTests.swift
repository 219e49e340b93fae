// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

/// Physical volumes that no LVM has made: what contradicts itself is refused, and what is newest counts.
@Suite struct LVMMetadataTests {
    private func fixture(_ texts: String...) -> LVMFixture {
        LVMFixture(texts: texts.map { Array($0.utf8) + [10, 0] })
    }

    private func assembly(_ fixtures: LVMFixture...) throws -> LVMAssembly {
        LVMAssembly(
            try fixtures.enumerated().map { number, fixture in try #require(try fixture.volume(UInt64(number) + 1)) })
    }

    /// The only volume of the only group.
    private func only(_ fixtures: LVMFixture...) throws -> LVMLogicalVolume {
        let assembly = LVMAssembly(
            try fixtures.enumerated().map { number, fixture in try #require(try fixture.volume(UInt64(number) + 1)) })
        #expect(assembly.faults == [] && assembly.groups.count == 1 && assembly.groups.first?.volumes.count == 1)
        return try #require(assembly.groups.first?.volumes.first)
    }

    private func refusal(_ volumes: String, members: String? = nil) throws -> String {
        let volume = try only(fixture(LVMFixture.text(members: members, volumes: volumes)))
        let error = try #require(throws: FormatError.self) { try volume.disk() }
        #expect(error.code == .unsupported)
        return error.description
    }

    /// Why the text of a physical volume does not count.
    private func fault(_ text: String) throws -> String {
        let assembly = try assembly(fixture(text))
        #expect(assembly.groups.isEmpty && assembly.faults.count == 1)
        return try #require(assembly.faults.first).description
    }

    // MARK: Label and areas

    @Test func `the fixture is what a physical volume is`() throws {
        let disk = try only(fixture(LVMFixture.text())).disk()
        #expect(disk.size == 128 << 10)
        #expect(try disk.origin(at: 0) == LVMOrigin(volume: 1, sector: 2048))
    }

    @Test func `a device without a label is none, and a label in any of the first four sectors counts`() throws {
        #expect(try LVMPhysicalVolume.find(LVMTestDevice(1, size: 4096, sectors: [:]), name: "disk") == nil)
        #expect(try LVMPhysicalVolume.find(LVMTestDevice(1, size: 100, sectors: [:]), name: "disk") == nil)
        for sector in 0..<6 as Range<UInt64> {
            var moved = fixture(LVMFixture.text())
            moved.change = { sectors in
                sectors[1]?.replaceSubrange(8..<16, with: LVMFixture.little(sector))
            }
            moved.damage = { sectors in
                let label = sectors.removeValue(forKey: 1)
                sectors[sector] = label
            }
            #expect(try LVMPhysicalVolume.isLabelled(moved.device()) == (sector < 4))
            #expect((try moved.volume() != nil) == (sector < 4))
        }
    }

    @Test func `a label with a wrong checksum is told of, and none that says another sector`() throws {
        var broken = fixture(LVMFixture.text())
        broken.damage = { $0[1]?[100] ^= 1 }
        #expect(try LVMPhysicalVolume.isLabelled(broken.device()))
        let error = try #require(throws: FormatError.self) { try broken.volume() }
        #expect(error.code == .damaged)
        #expect(error.description.hasPrefix("label of an LVM physical volume: checksum at byte 528: found"))
        broken.damage = { $0[1]?[8] = 2 }
        #expect(try !LVMPhysicalVolume.isLabelled(broken.device()))
        #expect(try broken.volume() == nil)
    }

    @Test(arguments: [
        (20, LVMFixture.little(500 as UInt32), "place of its header at byte 532: found 500, allowed 32 to 440"),
        (32, [0x2F], "identifier at byte 544: found other characters, allowed letters and digits"),
        (72, [UInt8](repeating: 0, count: 16), "data areas at byte 584: found 0, allowed 1"),
        (80, LVMFixture.little(UInt64.max), "data area at byte 584: found 18446744073709551615 bytes from 1048576"),
        (112, LVMFixture.little(UInt64.max - 1), "metadata area at byte 616: found 18446744073709551614 bytes from"),
        (72, [UInt8](repeating: 1, count: 440), "places of its areas at byte 584: found a list without an end"),
    ])
    func `a header that cannot be is refused, with the place`(
        _ place: Int, _ bytes: [UInt8], _ sentence: String
    ) throws {
        var fixture = fixture(LVMFixture.text())
        fixture.change = { $0[1]?.replaceSubrange(place..<(place + bytes.count), with: bytes) }
        let error = try #require(throws: FormatError.self) { try fixture.volume() }
        #expect(error.code == .damaged)
        #expect(error.description.hasPrefix("LVM physical volume: \(sentence)"), "\(error)")
    }

    @Test(arguments: [
        (4, [0], "signature at byte 4100: found another, allowed that of LVM2"),
        (20, [2], "at byte 4096 has version 2; nbdecrypt reads version 1"),
        (24, LVMFixture.little(512 as UInt64), "its place at byte 4120: found 512, allowed 4096"),
        (32, LVMFixture.little(512 as UInt64), "its size at byte 4128: found 512, allowed 513 to 4190208"),
        (32, LVMFixture.little(4_190_209 as UInt64), "its size at byte 4128: found 4190209, allowed"),
        (40, LVMFixture.little(100 as UInt64), "place of its text at byte 4136: found"),
        (40, LVMFixture.little(65536 as UInt64), "place of its text at byte 4136: found"),
        (48, LVMFixture.little(0 as UInt64), "place of its text at byte 4136: found 0 bytes from 512"),
        (48, LVMFixture.little(65025 as UInt64), "place of its text at byte 4136: found 65025 bytes from 512"),
        (48, LVMFixture.little(100 as UInt64), "checksum of its text at byte 4152: found"),
    ])
    func `an area that cannot be is refused, with the place`(
        _ place: Int, _ bytes: [UInt8], _ sentence: String
    ) throws {
        var fixture = fixture(LVMFixture.text())
        fixture.change = { $0[8]?.replaceSubrange(place..<(place + bytes.count), with: bytes) }
        let assembly = try assembly(fixture)
        #expect(assembly.groups.isEmpty)
        let fault = try #require(assembly.faults.first).description
        #expect(fault.hasPrefix("partition 1: LVM metadata area") && fault.contains(sentence), "\(fault)")
    }

    @Test func `a wrong checksum of an area or of its text is told of`() throws {
        var fixture = fixture(LVMFixture.text())
        fixture.damage = { $0[8]?[500] = 1 }
        #expect(try assembly(fixture).faults.first?.description.contains("checksum of its header at byte 4096") == true)
        fixture.damage = { $0[9]?[0] ^= 1 }
        #expect(try assembly(fixture).faults.first?.description.contains("checksum of its text at byte 4152") == true)
    }

    @Test func `a text may go on at the beginning of its ring, wherever it is cut`() throws {
        let text = LVMFixture.text()
        for offset in [65_535, 65_000, 64_512, 65_536 - UInt64(text.utf8.count)] as [UInt64] {
            var fixture = fixture(text)
            fixture.textOffset = offset
            #expect(try only(fixture).disk().size == 128 << 10)
        }
    }

    // MARK: Which text counts

    @Test func `the newest text counts, wherever it is`() throws {
        let old = LVMFixture.text(seqno: 6)
        let new = LVMFixture.text(seqno: 7, volumes: LVMFixture.volume("data", segments: LVMFixture.segment(at: 9)))
        for texts in [[old, new], [new, old]] {
            let disk = try only(fixture(texts[0], texts[1])).disk()
            #expect(try disk.origin(at: 0) == LVMOrigin(volume: 1, sector: 2048 + 9 * 128))
        }
    }

    @Test func `two texts with one number that are not the same are not believed`() throws {
        let one = LVMFixture.text(seqno: 6)
        let other = LVMFixture.text(seqno: 6, volumes: LVMFixture.volume("data", segments: LVMFixture.segment(at: 9)))
        let assembly = try assembly(fixture(one, other))
        #expect(assembly.groups.isEmpty)
        let fault = try #require(assembly.faults.first).description
        #expect(fault.hasPrefix("volume group vg has two descriptions with the number 6 that are not the same"))
        // What is newer than both decides.
        let newest = LVMFixture.text(seqno: 8)
        #expect(try only(fixture(one, other, newest)).disk().origin(at: 0).sector == 2048)
        #expect(try only(fixture(newest, one, other)).disk().origin(at: 0).sector == 2048)
    }

    @Test func `a physical volume whose areas are empty or ignored is named, and found by another's text`() throws {
        var silent = fixture(LVMFixture.text(seqno: 9, volumes: LVMFixture.volume("old")))
        silent.isIgnored = true
        let alone = try assembly(silent)
        #expect(alone.groups.isEmpty)
        #expect(
            alone.faults.first?.description.hasPrefix("partition 1 is an LVM physical volume of no volume group")
                == true)
        silent.identifier = String(repeating: "b", count: 32)
        let members = LVMFixture.member() + "\n" + LVMFixture.member("pv1", letter: "b")
        let segment = LVMFixture.segment(at: 3, on: "pv1")
        let text = LVMFixture.text(members: members, volumes: LVMFixture.volume("data", segments: segment))
        #expect(
            try only(fixture(text), silent).disk().origin(at: 0) == LVMOrigin(volume: 2, sector: 2048 + 3 * 128))
        // One that has room for metadata, and none, was taken out of the group.
        let unused = LVMFixture(identifier: String(repeating: "b", count: 32))
        let volume = try #require(try assembly(fixture(text), unused).groups.first?.volumes.first)
        let error = try #require(throws: FormatError.self) { try volume.disk() }
        #expect(
            error.description.contains(
                "needs a physical volume that is not on this disk (bbbbbb-bbbb-bbbb-bbbb-bbbb-bbbb-bbbbbb, /dev/sdb"),
            "\(error)")
    }

    @Test func `two groups of one name, and a physical volume that is there twice, are refused`() throws {
        let other = LVMFixture.text().replacing("GGGGGG-GGGG", with: "HHHHHH-GGGG")
        let assembly = try assembly(fixture(LVMFixture.text()), fixture(other))
        #expect(assembly.groups.isEmpty)
        #expect(
            assembly.faults.map(\.description) == [
                "2 volume groups on this disk are called vg: take the partition of one of them alone, with partition"
            ])
        let error = try #require(throws: FormatError.self) {
            try only(fixture(LVMFixture.text()), fixture(LVMFixture.text())).disk()
        }
        #expect(error.description.contains("which is on this disk twice"), "\(error)")
    }

    @Test func `however many physical volumes a disk has, what is read of them is bounded`() throws {
        let device = fixture(LVMFixture.text()).device()
        var texts = LVMTexts()
        for _ in 0..<LVMTexts.maximumVolumes { #expect(try LVMPhysicalVolume(device, name: "x", &texts) != nil) }
        let error = try #require(throws: FormatError.self) { try LVMPhysicalVolume(device, name: "x", &texts) }
        #expect(error.description.hasPrefix("the disk has more than 1024 LVM physical volumes"))
        // A text of 16 MiB, which counts although it cannot be read.
        var large = fixture(LVMFixture.text())
        large.size = 32 << 20
        large.change = { sectors in
            sectors[8]?.replaceSubrange(32..<40, with: LVMFixture.little(31 << 20 as UInt64))
            sectors[8]?.replaceSubrange(48..<56, with: LVMFixture.little(16 << 20 as UInt64))
        }
        let start = try large.device().read(count: 4608, at: 0)
        let memory = MemoryDevice(start + [UInt8](repeating: 0, count: 32 << 20 - 4608))
        memory.faults.unreadableByte = 5000
        texts = LVMTexts()
        for _ in 0..<16 {
            let physical = try #require(try LVMPhysicalVolume(memory, name: "x", &texts))
            #expect(physical.faults.first?.code == .unreadable)
        }
        let last = try #require(try LVMPhysicalVolume(memory, name: "x", &texts)).faults.first
        #expect(last?.description.contains("the disk has more than 268435456 bytes of LVM metadata, or") == true)
    }

    // MARK: Volumes

    @Test(arguments: [
        (LVMFixture.segment(on: "other"), "vg/data lies on another logical volume (other), which"),
        (LVMFixture.segment().replacing("striped", with: "striped+NEW"), "vg/data is of type striped+NEW, which"),
        (LVMFixture.segment().replacing("striped", with: "error"), "vg/data is of type error, which"),
    ])
    func `a segment that is not read is refused by name`(_ segment: String, _ sentence: String) throws {
        let refusal = try refusal(LVMFixture.volume("data", segments: segment))
        #expect(refusal.hasPrefix("logical volume \(sentence)"), "\(refusal)")
    }

    @Test func `a volume that changes, or whose status nobody knows, is refused`() throws {
        for status in ["LOCKED", "PVMOVE", "LATER"] {
            let refusal = try refusal(LVMFixture.volume("data", status: "\"READ\", \"VISIBLE\", \"\(status)\""))
            #expect(refusal.hasPrefix("logical volume vg/data has the status \(status), which"), "\(refusal)")
        }
    }

    @Test func `a physical volume that LVM has marked as missing is not read`() throws {
        let member = LVMFixture.member().replacing("flags = []", with: "flags = [\"MISSING\"]")
        let refusal = try refusal(LVMFixture.volume("data"), members: member)
        #expect(refusal.contains("needs partition 1, which LVM has marked as missing"), "\(refusal)")
    }

    @Test func `an origin into which a snapshot is being merged is refused, and one with a snapshot is read`() throws {
        let store = LVMFixture.volume("store", status: "\"READ\"", segments: LVMFixture.segment(at: 8))
        func snapshot(_ key: String) -> String {
            let segment = """
                start_extent = 0
                extent_count = 2
                type = "snapshot"
                chunk_size = 8
                origin = "data"
                \(key) = "store"
                """
            return LVMFixture.volume("snapshot0", segments: segment)
        }
        func group(_ key: String) throws -> [LVMLogicalVolume] {
            let volumes = [LVMFixture.volume("data"), store, snapshot(key)].joined(separator: "\n")
            return try #require(try assembly(fixture(LVMFixture.text(volumes: volumes))).groups.first).volumes
        }
        #expect(try group("cow_store").map(\.name) == ["data", "store"])
        #expect(try group("cow_store")[0].disk().origin(at: 0).sector == 2048)
        let merging = try group("merging_store")
        let error = try #require(throws: FormatError.self) { try merging[0].disk() }
        #expect(error.description.hasPrefix("logical volume vg/data is a part of snapshot0, which"), "\(error)")
        #expect(throws: FormatError.self) { try merging[1].disk() }
    }

    @Test func `where the label says that data is, extents are, or the volume is refused`() throws {
        var moved = fixture(LVMFixture.text())
        moved.dataStart = 2 << 20
        let error = try #require(throws: FormatError.self) { try only(moved).disk() }
        #expect(
            error.description.contains(
                "the label of partition 1 says that its data begins at byte 2097152, and the metadata of the group says 1048576"
            ), "\(error)")
        // Over a metadata area.
        var over = fixture(LVMFixture.text(members: LVMFixture.member().replacing("2048", with: "8")))
        over.dataStart = 4096
        #expect(throws: FormatError.self) { try only(over).disk() }
        // Behind the end of the data that the label states.
        var short = fixture(LVMFixture.text())
        short.change = { $0[1]?.replaceSubrange(80..<88, with: LVMFixture.little(131_071 as UInt64)) }
        let end = try #require(throws: FormatError.self) { try only(short).disk() }
        #expect(end.description.contains("behind the end of the data at 1179647"), "\(end)")
    }

    // MARK: Texts

    @Test(arguments: [
        ("extent_size = 128", "extent_size = 0", "/vg/extent_size", "found 0, allowed a number from 1 to 4294967295"),
        ("extent_size = 128", "extent_size = 08", "/vg/extent_size", "found another value, allowed a number"),
        ("extent_size = 128", "", "/vg/extent_size", "found nothing, allowed a number"),
        ("seqno = 1", "seqno = \"1\"", "/vg/seqno", "found \"1\", allowed a number"),
        (
            "pe_count = 32", "pe_count = 1", "/vg/logical_volumes/data",
            "found extents up to 2 of pv0, allowed its 1 ext"
        ),
        ("extent_count = 2", "extent_count = 0", "segment1/extent_count", "found 0, allowed a number from 1"),
        ("segment_count = 1", "segment_count = 2", "data/segment_count", "found 2, allowed 1, as there are"),
        ("start_extent = 0", "start_extent = 1", "data/start_extent", "found 1, allowed 0, where the segment before"),
        (
            "stripe_count = 1", "stripe_count = 129", "segment1/stripe_count",
            "found 129, allowed a number from 1 to 128"
        ),
        ("stripe_count = 1", "stripe_count = 2", "segment1/stripes", "found 2 values, allowed 4"),
        ("[\"pv0\", 0]", "[0, \"pv0\"]", "segment1/stripes", "found other values, allowed names and numbers"),
        ("data {", "\"../data\" {", "data/", "found another name, allowed letters"),
        ("vg {", "\"v g\" {", "/", "found no section with a valid name, allowed a volume group"),
        ("id = \"GGGGGG-", "id = \"GGGGGG/", "/vg/id", "allowed 32 letters and digits in groups"),
        ("Text Format", "Other Format", "/contents", "found another, allowed Text Format Volume Group"),
    ])
    func `a text with a value that cannot be is refused, with its name`(
        _ old: String, _ new: String, _ field: String, _ sentence: String
    ) throws {
        let fault = try fault(LVMFixture.text().replacing(old, with: new))
        #expect(fault.hasPrefix("partition 1: LVM metadata: "))
        #expect(fault.contains(field) && fault.contains(sentence), "\(fault)")
    }

    @Test func `a version, a format or a status of the group that nobody knows is refused by name`() throws {
        #expect(try fault(LVMFixture.text().replacing("version = 1", with: "version = 2")).contains("has version 2;"))
        #expect(
            try fault(LVMFixture.text().replacing("\"lvm2\"", with: "\"lvm1\"")).contains("of the format \"lvm1\";"))
        #expect(
            try fault(LVMFixture.text().replacing("\"RESIZEABLE\"", with: "\"LATER\"")).contains(
                "volume group vg has the status \"LATER\", which this version"))
    }

    @Test func `extents that belong to two volumes, or twice to one, are refused`() throws {
        for second in [1, 0] {
            let volumes =
                LVMFixture.volume("data") + "\n" + LVMFixture.volume("more", segments: LVMFixture.segment(at: second))
            let fault = try fault(LVMFixture.text(volumes: volumes))
            #expect(
                fault.contains("/physical_volumes/pv0 at byte 4608: found extent \(second) in two places"), "\(fault)")
        }
        let twice = LVMFixture.volume(
            "data", segments: LVMFixture.segment(), LVMFixture.segment(start: 2, at: 1))
        #expect(try fault(LVMFixture.text(volumes: twice)).contains("in two places of logical volumes"))
    }

    @Test func `stripes whose chunks do not divide them are refused`() throws {
        let segment = """
            start_extent = 0
            extent_count = 4
            type = "striped"
            stripe_count = 2
            stripe_size = 96
            stripes = ["pv0", 0, "pv0", 2]
            """
        let fault = try fault(LVMFixture.text(volumes: LVMFixture.volume("data", segments: segment)))
        #expect(fault.contains("found 4 in 2 stripes, allowed as many for each, of whole chunks of 49152 bytes"))
        let even = LVMFixture.volume("data", segments: segment.replacing("96", with: "128"))
        #expect(try only(fixture(LVMFixture.text(volumes: even))).disk().origin(at: 65536).sector == 2048 + 256)
    }

    @Test(arguments: [
        ("x {", "line 2: found the text ends within a section") as (String, String),
        ("x = [1 2]", "line 1: found a list without a comma between its values"),
        ("x = \"y", "line 2: found a string without an end"), ("\nx", "line 3: found a name without \"=\" or \"{\""),
        ("x = 1\nx = 2", "line 2: found a name for the second time"), ("}", "line 1: found a character that begins"),
        ("x = ", "line 2: found a character that begins neither"),
        (String(repeating: "x {", count: 10), "line 1: found sections within each other, more than 8"),
    ])
    func `what is no text is refused, with the line`(_ text: String, _ sentence: String) throws {
        let fault = try fault(text)
        #expect(
            fault.contains("LVM metadata: \(sentence.prefix(6))") && fault.contains(sentence.dropFirst(8)), "\(fault)")
    }

    @Test func `comments, escapes, other kinds of values and unknown names are taken for what they are`() throws {
        let more = """
            # { = "
            strange = [ 1.5, -3, word, "a \\"quoted\\" \\\\ word", ] # x
            other { deeper { a = 'x }
            """
        // A quote of another kind begins nothing.
        #expect(try fault(LVMFixture.text(more: more)).contains("a character that begins neither"))
        let good = more.replacing("'x", with: "x }")
        #expect(try only(fixture(LVMFixture.text(more: good))).disk().size == 128 << 10)
    }
}
