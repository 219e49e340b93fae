// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

/// The snapshot table, in an image made by hand.
@Suite struct Qcow2SnapshotTests {
    /// An entry before it becomes bytes.
    private struct Entry {
        var l1Offset = UInt64(Qcow2Fixture.l1Offset)
        var l1Count: UInt32 = 1
        var id = "1"
        var name = "a"
        var vmStateSize: UInt32 = 0
        /// The extra data; nil: none.
        var extra: [UInt64] = [0, 32 * 512]
        var extraLength: UInt32?

        var bytes: [UInt8] {
            var bytes: [UInt8] = []
            bytes.append(bigEndian: l1Offset)
            bytes.append(bigEndian: l1Count)
            bytes.append(bigEndian: UInt16(id.utf8.count))
            bytes.append(bigEndian: UInt16(name.utf8.count))
            bytes.append(bigEndian: UInt32(1_700_000_000))
            bytes.append(bigEndian: UInt32(0))
            bytes.append(bigEndian: UInt64(0))
            bytes.append(bigEndian: vmStateSize)
            bytes.append(bigEndian: extraLength ?? UInt32(extra.count * 8))
            for word in extra { bytes.append(bigEndian: word) }
            bytes += Array(id.utf8) + Array(name.utf8)
            return bytes + [UInt8](repeating: 0, count: (8 - bytes.count % 8) % 8)
        }
    }

    private func fixture(_ entries: [Entry], count: UInt32? = nil, at offset: Int = Qcow2Fixture.dataOffset)
        -> Qcow2Fixture
    {
        var fixture = Qcow2Fixture(data: entries.flatMap(\.bytes))
        fixture.set(count ?? UInt32(entries.count), at: 60)
        fixture.set(UInt64(offset), at: 64)
        return fixture
    }

    private func snapshots(_ fixture: Qcow2Fixture) throws -> [Qcow2Snapshot] {
        let device = fixture.device
        return try Qcow2Snapshot.all(of: device, try #require(try Qcow2Header(device: device)))
    }

    private func refuses(_ fixture: Qcow2Fixture, saying parts: String...) {
        #expect {
            try snapshots(fixture)
        } throws: { error in
            (error as? FormatError)?.code == .damaged && parts.allSatisfy("\(error)".contains)
        }
    }

    @Test func `every entry is read, whatever its length`() throws {
        let found = try snapshots(
            fixture([
                Entry(id: "1", name: "first"), Entry(id: "22", name: "größe", extra: []),
                Entry(id: "", name: "", vmStateSize: 7, extra: [9]),
                Entry(id: "4", name: "x", extra: [1 << 40, 512, 3]),
            ]))
        #expect(found.map(\.id) == ["1", "22", "", "4"])
        #expect(found.map(\.name) == ["first", "größe", "", "x"])
        #expect(found.map(\.vmStateSize) == [0, 0, 9, 1 << 40])
        // Without a size of its own, a snapshot has that of the image.
        let sizes: [UInt64] = [16_384, 32_768, 32_768, 512]
        #expect(found.map(\.mapping.virtualSize) == sizes)
        #expect(found.allSatisfy { $0.date == 1_700_000_000 })
    }

    @Test func `an image without snapshots has none, wherever its table would be`() throws {
        #expect(try snapshots(fixture([], count: 0, at: 1 << 40)).isEmpty)
    }

    @Test func `the disk of a snapshot is read through its own table`() throws {
        var fixture = fixture([Entry(l1Offset: UInt64(Qcow2Fixture.dataOffset + 512), extra: [0, 2 * 512])])
        fixture.bytes += [UInt8](repeating: 0, count: Qcow2Fixture.dataOffset + 512 - fixture.bytes.count)
        // An L1 table, an L2 table and a cluster.
        fixture.bytes += [UInt8](repeating: 0, count: 1024) + [UInt8](repeating: 0x77, count: 512)
        fixture.set(UInt64(Qcow2Fixture.dataOffset + 1024), at: Qcow2Fixture.dataOffset + 512)
        fixture.set(UInt64(Qcow2Fixture.dataOffset + 1536), at: Qcow2Fixture.dataOffset + 1024 + 8)
        let device = fixture.device
        let header = try #require(try Qcow2Header(device: device))
        let snapshot = try #require(try Qcow2Snapshot.all(of: device, header).first)
        let image = Qcow2Image(file: device, header: header, mapping: snapshot.mapping, cipher: nil)
        #expect(image.size == 1024)
        let zeros = [UInt8](repeating: 0, count: 512)
        #expect(try image.read(count: 1024, at: 0) == zeros + [UInt8](repeating: 0x77, count: 512))
        #expect(try Qcow2Image(file: device, header: header, cipher: nil).read(count: 512, at: 512) == zeros)
    }

    @Test func `a table that is not in the file is refused`() {
        for offset in [1 << 20, Int.max, Qcow2Fixture.dataOffset + 32] {
            refuses(fixture([Entry()], at: offset), saying: "snapshot table: entry 0", "beyond the end")
        }
        refuses(fixture([Entry()], count: 2), saying: "entry 1", "beyond the end")
        refuses(fixture([Entry()], count: 65536), saying: "entry 1", "beyond the end")
        var last = fixture([Entry()])
        last.bytes.removeLast(7)
        refuses(last, saying: "entry 0")
        var huge = fixture([Entry()])
        huge.set(UInt64.max, at: 64)
        refuses(huge, saying: "entry 0")
    }

    @Test func `more than 65536 snapshots are refused with the header`() throws {
        let fixture = fixture([Entry()], count: 65537)
        #expect {
            try fixture.header()
        } throws: { "\($0)".contains("nb_snapshots") }
    }

    @Test func `extra data has a limit`() {
        refuses(fixture([Entry(extraLength: 1025)]), saying: "extra_data_size", "1025", "at most 1024")
        refuses(fixture([Entry(extraLength: .max)]), saying: "extra_data_size")
    }

    @Test func `an L1 table that is too small, too large or elsewhere is refused`() {
        refuses(fixture([Entry(l1Count: 0)]), saying: "entry 0 (a)", "l1_size", "0 entries")
        refuses(fixture([Entry(l1Count: .max)]), saying: "l1_size", "4294967295 entries")
        refuses(fixture([Entry(extra: [0, .max])]), saying: "l1_size")
        refuses(fixture([Entry(extra: [0, 1 << 40])]), saying: "l1_size")
        refuses(fixture([Entry(l1Offset: 1 << 40)]), saying: "l1_table_offset")
        refuses(fixture([Entry(l1Offset: 513)]), saying: "l1_table_offset")
        refuses(fixture([Entry(l1Offset: UInt64.max - 511)]), saying: "l1_table_offset")
        refuses(fixture([Entry(l1Count: 4096)]), saying: "l1_table_offset", "4096 entries")
    }

    @Test func `names are safe to show`() throws {
        let found = try snapshots(fixture([Entry(id: "\u{1B}[2J", name: "a\nb\u{202E}")]))
        #expect(found.first?.id == "\u{FFFD}[2J" && found.first?.name == "a\u{FFFD}b\u{FFFD}")
    }
}
