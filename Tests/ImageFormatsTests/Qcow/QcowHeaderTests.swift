// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

@Suite struct QcowHeaderTests {
    /// A field that is out of range, and the start of the sentence that must say so.
    struct Fault: CustomTestStringConvertible, Sendable {
        let name: String
        let sentence: String
        var code: FormatError.Code = .damaged
        let make: @Sendable (inout QcowFixture) -> Void
        var testDescription: String { name }
    }

    static let faults: [Fault] = [
        Fault(name: "size 0", sentence: "qcow header: size at byte 24: found 0 bytes, allowed at least 2") {
            $0.set(UInt64(0), at: 24)
        },
        Fault(name: "size 1", sentence: "qcow header: size at byte 24: found 1 bytes") { $0.set(UInt64(1), at: 24) },
        Fault(name: "cluster_bits 8", sentence: "qcow header: cluster_bits at byte 32: found 8, allowed 9 to 16") {
            $0.set(UInt8(8), at: 32)
        },
        Fault(name: "cluster_bits 17", sentence: "qcow header: cluster_bits at byte 32: found 17") {
            $0.set(UInt8(17), at: 32)
        },
        Fault(name: "l2_bits 5", sentence: "qcow header: l2_bits at byte 33: found 5, allowed 6 to 13") {
            $0.set(UInt8(5), at: 33)
        },
        Fault(name: "l2_bits 255", sentence: "qcow header: l2_bits at byte 33: found 255") {
            $0.set(UInt8(255), at: 33)
        },
        Fault(name: "crypt_method 2", sentence: "qcow header: crypt_method at byte 36: found 2, allowed 0 (none)") {
            $0.set(UInt32(2), at: 36)
        },
        Fault(
            name: "exabytes in a small file",
            sentence: "qcow header: l1_table_offset at byte 40: found 512, with 562949953421312 entries"
        ) {
            $0.set(UInt64.max, at: 24)
        },
        Fault(
            name: "L1 table outside the file",
            sentence: "qcow header: l1_table_offset at byte 40: found 1529, with 1 entries for a disk of 32768 bytes, "
                + "allowed a table within the file's 1536 bytes"
        ) {
            $0.set(UInt64(1529), at: 40)
        },
        Fault(name: "L1 table at the end of numbers", sentence: "qcow header: l1_table_offset at byte 40: found 1844") {
            $0.set(UInt64.max - 7, at: 40)
        },
        Fault(
            name: "L1 table beyond 32 MiB", sentence: "the image needs an L1 table of 4194305 entries",
            code: .unsupported
        ) {
            $0.bytes += [UInt8](repeating: 0, count: 33 << 20)
            $0.set(UInt64(4_194_304 * QcowFixture.coverage + 2), at: 24)
        },
        Fault(name: "backing name too long", sentence: "qcow header: backing_file_size at byte 16: found 1024 bytes") {
            $0.set(UInt64(200), at: 8)
            $0.set(UInt32(1024), at: 16)
        },
        Fault(
            name: "backing name outside the file",
            sentence: "qcow header: backing_file_offset at byte 8: found 2 bytes at 1535"
        ) {
            $0.set(UInt64(1535), at: 8)
            $0.set(UInt32(2), at: 16)
        },
        Fault(name: "backing name at the end of numbers", sentence: "qcow header: backing_file_offset at byte 8") {
            $0.set(UInt64.max, at: 8)
            $0.set(UInt32(2), at: 16)
        },
    ]

    @Test(arguments: faults)
    func `a field out of range is refused with field, place, value and limit`(fault: Fault) {
        var fixture = QcowFixture()
        fault.make(&fixture)
        #expect {
            try fixture.header()
        } throws: { error in
            "\(error)".hasPrefix(fault.sentence) && !"\(error)".contains("\n")
                && (error as? FormatError)?.code == fault.code
        }
    }

    @Test func `the fixture without a fault is accepted, with all of its fields`() throws {
        var fixture = QcowFixture(size: 3 * 32768 + 700, method: 1)
        fixture.setBackingName(Array("base\u{1B}.img".utf8) + [0xFF])
        let header = try #require(try fixture.header())
        #expect(header.size == 99004)
        #expect(header.virtualSize == 98816)
        #expect(header.clusterBits == 9 && header.clusterSize == 512)
        #expect(header.l2Bits == 6 && header.l2TableSize == 512)
        #expect(header.l1EntryCount == 4 && header.l1TableOffset == 512)
        #expect(header.encryption == .legacyAES)
        #expect(header.backingFile?.shown == "base\u{FFFD}.img\u{FFFD}")
        #expect(header.backingFile?.bytes == Array("base\u{1B}.img".utf8) + [0xFF])
    }

    @Test func `a backing name of 1023 bytes is read, and one without bytes is none`() throws {
        var fixture = QcowFixture()
        fixture.setBackingName([UInt8](repeating: 0x61, count: 1023))
        fixture.set(UInt64(1100), at: 40)
        #expect(try fixture.header()?.backingFile?.bytes.count == 1023)
        fixture = QcowFixture()
        fixture.setBackingName([])
        let header = try #require(try fixture.header())
        #expect(header.backingFile == nil)
    }

    @Test func `other versions and other files are not qcow version 1`() throws {
        var fixture = QcowFixture()
        for version: UInt32 in [0, 2, 3, 0x0100_0000] {
            fixture.set(version, at: 4)
            #expect(try fixture.header() == nil)
        }
        fixture = QcowFixture()
        fixture.bytes[3] = 0xFA
        #expect(try fixture.header() == nil)
    }

    @Test func `a file that ends in the header is damaged, and every shorter one is refused`() throws {
        let bytes = QcowFixture().bytes
        for count in 0..<8 { #expect(try QcowHeader(device: MemoryDevice(Array(bytes[..<count]))) == nil) }
        for count in 8..<48 {
            #expect {
                try QcowHeader(device: MemoryDevice(Array(bytes[..<count])))
            } throws: { error in
                "\(error)".hasPrefix("qcow header at byte 0: found \(count) bytes, allowed at least 48 bytes")
            }
        }
        for count in 48..<(QcowFixture.l1Offset + 8) {
            #expect {
                try QcowHeader(device: MemoryDevice(Array(bytes[..<count])))
            } throws: { "\($0)".contains("l1_table_offset") }
        }
        _ = try #require(try QcowHeader(device: MemoryDevice(Array(bytes[..<(QcowFixture.l1Offset + 8)]))))
    }

    @Test func `the size is rounded down to whole sectors, and may come to nothing`() throws {
        #expect(try QcowFixture(size: 1535).header()?.virtualSize == 1024)
        #expect(try QcowFixture(size: 511).header()?.virtualSize == 0)
    }

    @Test func `a header that cannot be read says why`() {
        let device = QcowFixture().device
        device.faults.unreadableByte = 40
        #expect {
            try QcowHeader(device: device)
        } throws: { ($0 as? FormatError)?.code == .unreadable && "\($0)".contains("byte 40 cannot be read") }
    }
}
