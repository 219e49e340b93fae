// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

/// Which bitmaps an image has, and which of them can be used.
@Suite struct Qcow2BitmapDirectoryTests {
    private typealias Fixture = Qcow2BitmapFixture
    private typealias Entry = Qcow2BitmapFixture.Entry

    private func refuses(_ fixture: Fixture, saying parts: String...) {
        #expect {
            try fixture.bitmaps()
        } throws: { error in
            (error as? FormatError)?.code == .damaged && parts.allSatisfy("\(error)".contains)
        }
    }

    /// The bitmap is listed with the reason why it cannot be used, and says nothing of the disk.
    private func lists(_ entry: Entry, as code: FormatError.Code, saying parts: String...) throws {
        let bitmaps = try Fixture([entry, Entry("good")]).bitmaps()
        try #require(bitmaps.count == 2)
        let refusal = try #require(bitmaps[0].refusal)
        #expect(refusal.code == code)
        for part in parts + ["'\(bitmaps[0].name)'"] { #expect(refusal.description.contains(part), "\(refusal)") }
        #expect(throws: BlockError.damaged(refusal.description)) { try bitmaps[0].run(at: 0, limit: 1) }
        #expect(bitmaps[1].refusal == nil)
        #expect(try bitmaps[1].run(at: 0, limit: 512).length == 512)
    }

    @Test func `every entry is read, whatever its length`() throws {
        var fine = Entry("größe", flags: 2)
        fine.granularityBits = 16
        var extra = Entry("x", flags: 4)
        extra.extra = [1, 2, 3]
        let bitmaps = try Fixture([Entry("first"), fine, extra, Entry(String(repeating: "n", count: 1023))]).bitmaps()
        #expect(bitmaps.map(\.name) == ["first", "größe", "x", String(repeating: "n", count: 1023)])
        #expect(bitmaps.map(\.granularityBits) == [9, 16, 9, 9])
        #expect(bitmaps.map(\.isEnabled) == [false, true, false, false])
        #expect(bitmaps.allSatisfy { $0.refusal == nil && !$0.isInconsistent })
    }

    @Test func `bitmaps that a program did not know are not offered, with a warning`() throws {
        var fixture = Fixture()
        #expect(try fixture.warning() == nil)
        fixture.image.set(UInt64(0), at: 88)
        #expect(try fixture.bitmaps().isEmpty)
        #expect(try #require(try fixture.warning()).contains("miss changes and are not offered"))
        // Nor does anybody look at where they are.
        fixture.setExtension(count: 0, offset: .max)
        #expect(try fixture.bitmaps().isEmpty)
    }

    @Test func `an image without the extension has no bitmaps and no warning`() throws {
        var fixture = Fixture()
        fixture.image.addExtension(0x1234_5678, [UInt8](repeating: 0, count: 24))
        #expect(try fixture.bitmaps().isEmpty)
        #expect(try fixture.warning() == nil)
    }

    @Test func `a bitmap that was in use is listed and refused with what to do`() throws {
        try lists(
            Entry("monday", flags: 1), as: .damaged, saying: "in_use", "not closed properly",
            "qemu-img bitmap --remove -f qcow2 IMAGE monday", "in a copy")
        #expect(try Fixture([Entry(flags: 3)]).bitmap().isInconsistent)
        var odd = Entry("odd", flags: 1)
        // Its size may be that of a disk of long ago.
        odd.tableCount = 1
        try lists(odd, as: .damaged, saying: "not closed properly")
    }

    @Test func `what only another program can use is refused by name`() throws {
        var entry = Entry()
        entry.type = 2
        try lists(entry, as: .unsupported, saying: "type 2")
        try lists(Entry(flags: 8), as: .unsupported, saying: "flags", "0x8")
        entry = Entry()
        entry.extra = [1]
        try lists(entry, as: .unsupported, saying: "1 bytes of extra data")
        for bits in [0, 8, 32, 255] as [UInt8] {
            entry = Entry()
            entry.granularityBits = bits
            try lists(entry, as: .unsupported, saying: "2^\(bits)")
        }
        try lists(Entry("a\nb"), as: .unsupported, saying: "printable")
        entry = Entry()
        entry.name = [0x62, 0xFF]
        try lists(entry, as: .unsupported, saying: "printable")
    }

    @Test func `a table that cannot be there, or is too small, is refused by name`() throws {
        for offset in [0, 513, 1 << 40, UInt64.max - 511] as [UInt64] {
            var entry = Entry()
            entry.tableOffset = offset
            try lists(entry, as: .damaged, saying: "bitmap_table_offset", "\(offset)")
        }
        for (count, part) in [(0, "found 0"), (1, "enough for a disk"), (0x800_0001, "at most"), (.max, "1 to")]
            as [(UInt32, String)]
        {
            var entry = Entry()
            entry.tableCount = count
            try lists(entry, as: .damaged, saying: "bitmap_table_size", count == 0x800_0001 ? "1 to" : part)
        }
        var entry = Entry()
        entry.tableCount = 0x10_0001
        try lists(entry, as: .damaged, saying: "bitmap_table_size", "at most 536870912 bytes")
    }

    @Test func `an extension that cannot be right is refused`() {
        var fixture = Fixture()
        fixture.setExtension(count: 0)
        refuses(fixture, saying: "nb_bitmaps", "found 0")
        fixture.setExtension(count: 65536)
        refuses(fixture, saying: "nb_bitmaps", "65536", "65535")
        fixture.setExtension(reserved: 1)
        refuses(fixture, saying: "reserved")
        for size in [0, 67_107_841, UInt64.max] as [UInt64] {
            fixture.setExtension(size: size)
            refuses(fixture, saying: "bitmap_directory_size", "\(size)")
        }
        for offset in [0, 513, 1 << 30, UInt64.max - 511] as [UInt64] {
            fixture.setExtension(offset: offset)
            refuses(fixture, saying: "bitmap_directory_offset", "\(offset)")
        }
        for length in [0, 23, 25] {
            fixture.image.addExtension(Fixture.extensionType, [UInt8](repeating: 0, count: length))
            refuses(fixture, saying: "0x23852875", "found \(length) bytes", "allowed 24 bytes")
        }
    }

    @Test func `a directory that is too short, too long, or has a name twice is refused`() {
        var fixture = Fixture()
        fixture.setExtension(count: 2)
        refuses(fixture, saying: "entry 1", "found 0 bytes")
        fixture.setExtension(size: 40)
        refuses(fixture, saying: "8 bytes behind the last entry")
        fixture.setExtension(size: 24)
        refuses(fixture, saying: "entry 0", "found 32 bytes", "at most 24")
        refuses(Fixture([Entry("a"), Entry("b"), Entry("a")]), saying: "entry 2", "a second bitmap 'a'")
        refuses(Fixture([Entry("")]), saying: "name_size", "found 0")
        refuses(Fixture([Entry(String(repeating: "n", count: 1024))]), saying: "name_size", "found 1024")
    }

    @Test func `a damaged directory leaves the disk readable`() throws {
        var fixture = Fixture()
        fixture.setExtension(count: 0)
        #expect(try fixture.image.image().read(count: 512, at: 0) == [UInt8](repeating: 0, count: 512))
    }
}
