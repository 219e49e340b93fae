// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

@Suite struct Qcow2HeaderTests {
    /// A field that is out of range, and the start of the sentence that must say so.
    struct Fault: CustomTestStringConvertible, Sendable {
        let name: String
        let sentence: String
        let make: @Sendable (inout Qcow2Fixture) -> Void
        var testDescription: String { name }
    }

    static let faults: [Fault] = [
        Fault(name: "version 4", sentence: "qcow2 header: version at byte 4: found 4, allowed 2 or 3") {
            $0.set(UInt32(4), at: 4)
        },
        Fault(name: "version 0", sentence: "qcow2 header: version at byte 4: found 0") { $0.set(UInt32(0), at: 4) },
        Fault(name: "cluster_bits 8", sentence: "qcow2 header: cluster_bits at byte 20: found 8, allowed 9 to 21") {
            $0.set(UInt32(8), at: 20)
        },
        Fault(name: "cluster_bits 22", sentence: "qcow2 header: cluster_bits at byte 20: found 22") {
            $0.set(UInt32(22), at: 20)
        },
        Fault(name: "cluster_bits huge", sentence: "qcow2 header: cluster_bits at byte 20: found 4294967295") {
            $0.set(UInt32.max, at: 20)
        },
        Fault(name: "exabytes in a small file", sentence: "qcow2 header: size at byte 24: found 18446744073709551615") {
            $0.set(UInt64.max, at: 24)
        },
        Fault(
            name: "size beyond the L1 table",
            sentence: "qcow2 header: l1_size at byte 36: found 1 entries, allowed at least 2"
        ) {
            $0.set(UInt64(65 * 512), at: 24)
        },
        Fault(name: "crypt_method 3", sentence: "qcow2 header: crypt_method at byte 32: found 3") {
            $0.set(UInt32(3), at: 32)
        },
        Fault(name: "crypt_method 2 alone", sentence: "qcow2 header: crypt_method at byte 32: found 2 (LUKS) without") {
            $0.set(UInt32(2), at: 32)
        },
        Fault(name: "l1_size beyond 32 MiB", sentence: "qcow2 header: l1_size at byte 36: found 4194305 entries") {
            $0.set(UInt32(4_194_305), at: 36)
        },
        Fault(name: "L1 table not on a cluster", sentence: "qcow2 header: l1_table_offset at byte 40: found 1537") {
            $0.set(UInt64(1537), at: 40)
        },
        Fault(
            name: "L1 table outside the file",
            sentence: "qcow2 header: l1_table_offset at byte 40: found 1 entries at 1048576"
        ) {
            $0.set(UInt64(1 << 20), at: 40)
        },
        Fault(
            name: "L1 table at the end of numbers",
            sentence: "qcow2 header: l1_table_offset at byte 40: found 1 entries at"
        ) {
            $0.set(UInt64.max - 511, at: 40)
        },
        Fault(name: "no refcount table", sentence: "qcow2 header: refcount_table_clusters at byte 56: found 0") {
            $0.set(UInt32(0), at: 56)
        },
        Fault(
            name: "refcount table beyond 8 MiB",
            sentence: "qcow2 header: refcount_table_clusters at byte 56: found 16385"
        ) {
            $0.set(UInt32(16_385), at: 56)
        },
        Fault(name: "refcount table outside the file", sentence: "qcow2 header: refcount_table_offset at byte 48") {
            $0.set(UInt64(1 << 30), at: 48)
        },
        Fault(name: "refcount table not on a cluster", sentence: "qcow2 header: refcount_table_offset at byte 48") {
            $0.set(UInt64(513), at: 48)
        },
        Fault(name: "too many snapshots", sentence: "qcow2 header: nb_snapshots at byte 60: found 65537") {
            $0.set(UInt32(65_537), at: 60)
        },
        Fault(name: "refcount_order 7", sentence: "qcow2 header: refcount_order at byte 96: found 7, allowed 0 to 6") {
            $0.set(UInt32(7), at: 96)
        },
        Fault(
            name: "header_length 96", sentence: "qcow2 header: header_length at byte 100: found 96, allowed 104 to 512"
        ) {
            $0.set(UInt32(96), at: 100)
        },
        Fault(name: "header_length beyond a cluster", sentence: "qcow2 header: header_length at byte 100: found 513") {
            $0.set(UInt32(513), at: 100)
        },
        Fault(name: "unknown compression_type", sentence: "qcow2 header: compression_type at byte 104: found 2") {
            $0.set(UInt32(112), at: 100)
            $0.set(UInt8(2), at: 104)
        },
        Fault(name: "zstd without its feature bit", sentence: "qcow2 header: incompatible feature bit 3") {
            $0.set(UInt32(112), at: 100)
            $0.set(UInt8(1), at: 104)
        },
        Fault(name: "compression bit with deflate", sentence: "qcow2 header: incompatible feature bit 3") {
            $0.set(UInt64(8), at: 72)
        },
        Fault(name: "backing name too long", sentence: "qcow2 header: backing_file_size at byte 16: found 1024 bytes") {
            $0.set(UInt64(200), at: 8)
            $0.set(UInt32(1024), at: 16)
        },
        Fault(name: "backing name outside the first cluster", sentence: "qcow2 header: backing_file_offset at byte 8") {
            $0.set(UInt64(500), at: 8)
            $0.set(UInt32(13), at: 16)
        },
        Fault(
            name: "extension beyond its area",
            sentence: "qcow2 header extension 0xe2792aca at byte 104: found a length beyond"
        ) {
            $0.addExtension(0xE279_2ACA, Array("raw".utf8), length: 60_000)
        },
        Fault(name: "LUKS extension without LUKS", sentence: "qcow2 header extension 0x0537be77") {
            $0.addExtension(0x0537_BE77, [UInt8](repeating: 0, count: 16))
        },
        Fault(
            name: "LUKS extension of 15 bytes", sentence: "qcow2 header extension 0x537be77 at byte 104: found 15 bytes"
        ) {
            $0.addExtension(0x0537_BE77, [UInt8](repeating: 0, count: 15))
        },
    ]

    @Test(arguments: faults)
    func `a field out of range is refused with field, place, value and limit`(fault: Fault) {
        var fixture = Qcow2Fixture()
        fault.make(&fixture)
        #expect {
            try fixture.header()
        } throws: { error in
            "\(error)".hasPrefix(fault.sentence) && !"\(error)".contains("\n")
        }
    }

    @Test func `the fixture without a fault is accepted in both versions`() throws {
        for version: UInt32 in [2, 3] {
            let header = try #require(try Qcow2Fixture(version: version).header())
            #expect(header.version == version)
            #expect(header.clusterSize == 512)
            #expect(header.virtualSize == 64 * 512)
            #expect(header.refcountOrder == 4)
            try Qcow2Support.check(header)
        }
    }

    @Test(arguments: [0, 1, 3]) func `a file too short for the magic number is not qcow2`(count: Int) throws {
        #expect(try Qcow2Header(device: MemoryDevice(Array(Qcow2Fixture().bytes[..<count]))) == nil)
    }

    @Test(arguments: [4, 8, 71]) func `a file that ends in the header is damaged`(count: Int) {
        #expect {
            try Qcow2Header(device: MemoryDevice(Array(Qcow2Fixture().bytes[..<count])))
        } throws: { ($0 as? FormatError)?.code == .damaged }
    }

    @Test func `every shorter file is refused or not recognised, and nothing crashes`() {
        let bytes = Qcow2Fixture().bytes
        for count in 0..<Qcow2Fixture.l1Offset {
            let header = try? Qcow2Header(device: MemoryDevice(Array(bytes[..<count])))
            #expect(header == nil)
        }
    }

    @Test func `the size is rounded down to whole sectors`() throws {
        #expect(try Qcow2Fixture(size: 1535).header()?.virtualSize == 1024)
    }

    @Test(
        arguments: [
            (1 << 2, "keeps its data in an external data file"),
            (1 << 40, "nbdecrypt does not know: unknown bit 40"),
        ] as [(UInt64, String)])
    func `what is not read yet is refused by name`(features: UInt64, part: String) throws {
        var fixture = Qcow2Fixture()
        fixture.set(features, at: 72)
        let header = try #require(try fixture.header())
        #expect {
            try Qcow2Support.check(header)
        } throws: { ($0 as? FormatError)?.code == .unsupported && "\($0)".contains(part) }
    }

    @Test func `an unknown feature is called by the name that the image gives it`() throws {
        var fixture = Qcow2Fixture()
        fixture.set(UInt64(1) << 40, at: 72)
        fixture.addExtension(0x6803_F857, [0, 40] + Array("time\u{1B}travel".utf8) + [UInt8](repeating: 0, count: 35))
        let header = try #require(try fixture.header())
        #expect { try Qcow2Support.check(header) } throws: { "\($0)".contains("does not know: time\u{FFFD}travel;") }
    }

    @Test func `a text from the image that is too long is cut`() throws {
        var fixture = Qcow2Fixture()
        fixture.set(UInt32(11), at: 20)
        fixture.bytes += [UInt8](repeating: 0, count: 32768)
        fixture.set(UInt64(4096), at: 40)
        fixture.set(UInt64(2048), at: 48)
        fixture.addExtension(0x4441_5441, [UInt8](repeating: 0x61, count: 1800))
        let name = try #require(try fixture.header()?.extensions.dataFile?.shown)
        #expect(name == String(repeating: "a", count: 1023) + "…")
    }

    @Test func `dirty and corrupt images are read`() throws {
        var fixture = Qcow2Fixture()
        fixture.set(UInt64(3), at: 72)
        let header = try #require(try fixture.header())
        try Qcow2Support.check(header)
        #expect(header.features.names([]).incompatible == ["dirty bit", "corrupt bit"])
    }

    @Test func `backing file and snapshots are named`() throws {
        var fixture = Qcow2Fixture()
        fixture.bytes.replaceSubrange(200..<209, with: Array("base.img\n".utf8))
        fixture.set(UInt64(200), at: 8)
        fixture.set(UInt32(9), at: 16)
        let reference = try #require(try fixture.header()?.backingFile)
        #expect(reference.bytes == Array("base.img\n".utf8) && reference.shown == "base.img\u{FFFD}")
        fixture = Qcow2Fixture()
        fixture.set(UInt32(2), at: 60)
        let header = try #require(try fixture.header())
        #expect(header.snapshotCount == 2)
        try Qcow2Support.check(header)
    }

    @Test func `version 1 is another format`() throws {
        var fixture = Qcow2Fixture()
        fixture.set(UInt32(1), at: 4)
        #expect(try fixture.header() == nil)
    }
}
