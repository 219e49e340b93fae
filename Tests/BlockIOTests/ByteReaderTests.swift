// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing

@Suite struct ByteReaderTests {
    @Test func `integers are big-endian and come in order`() {
        var reader = ByteReader([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
        #expect(reader.integer(UInt8.self) == 0x01)
        #expect(reader.integer(UInt16.self) == 0x0203)
        #expect(reader.integer(UInt32.self) == 0x0405_0607)
        #expect(reader.integer(UInt64.self) == 0x0809_0A0B_0C0D_0E0F)
        #expect(reader.remaining == 0)
    }

    @Test func `reading past the end gives nil and uses nothing`() {
        var reader = ByteReader([1, 2, 3])
        #expect(reader.integer(UInt32.self) == nil)
        #expect(reader.take(4) == nil)
        #expect(reader.take(-1) == nil)
        #expect(reader.remaining == 3)
    }

    @Test func `appended integers read back`() {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: UInt16(0xFEDC))
        bytes.append(bigEndian: UInt64.max - 1)
        var reader = ByteReader(bytes)
        #expect(reader.integer(UInt16.self) == 0xFEDC)
        #expect(reader.integer(UInt64.self) == UInt64.max - 1)
    }

    @Test func `a range whose end does not fit 64 bits does not exist`() {
        #expect(ByteRange(offset: .max, length: 1) == nil)
        #expect(ByteRange(offset: .max, length: 0)?.end == .max)
        #expect(ByteRange(offset: 10, length: 5)?.fits(14) == false)
        #expect(ByteRange(offset: 10, length: 5)?.fits(15) == true)
    }
}
