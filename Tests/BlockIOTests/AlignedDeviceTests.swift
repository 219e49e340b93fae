// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing
import TestSupport

@Suite struct AlignedDeviceTests {
    private static let bytes = (0..<2048).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 / 256) }

    @Test(arguments: [0, 1, 511, 512, 513, 1023, 1024, 1535, 2047, 2048])
    func `every length at an offset gives the bytes of the device below`(offset: Int) throws {
        let device = AlignedDevice(MemoryDevice(Self.bytes, alignment: 512))
        for length in [0, 1, 2, 510, 511, 512, 513, 1024, 1025, 2048] where offset + length <= 2048 {
            let read = try device.read(count: length, at: UInt64(offset))
            #expect(read == Array(Self.bytes[offset..<(offset + length)]))
        }
    }

    @Test func `an aligned request is one request below`() throws {
        let below = MemoryDevice(Self.bytes, alignment: 512)
        _ = try AlignedDevice(below).read(count: 1024, at: 512)
        #expect(below.readCount == 1)
    }

    @Test func `an unaligned request asks at most once for each ragged end`() throws {
        let below = MemoryDevice(Self.bytes, alignment: 512)
        _ = try AlignedDevice(below).read(count: 1500, at: 100)
        #expect(below.readCount == 3)
    }

    @Test func `a request beyond the end is refused`() {
        let device = AlignedDevice(MemoryDevice(Self.bytes, alignment: 512))
        #expect { try device.read(count: 2, at: 2047) } throws: { ($0 as? BlockError)?.code == .outOfRange }
        #expect { try device.read(count: 2, at: .max) } throws: { ($0 as? BlockError)?.code == .outOfRange }
    }

    @Test func `a read that would wait says so, and the same read that may wait succeeds`() throws {
        let below = MemoryDevice(Self.bytes, alignment: 512)
        below.faults.nothingIsCached = true
        let device = AlignedDevice(below)
        #expect(throws: BlockError.wouldBlock) { try device.read(count: 10, at: 3, .cachedOnly) }
        #expect(try device.read(count: 10, at: 3, .mayBlock) == Array(Self.bytes[3..<13]))
    }

    @Test func `a failure below reaches the caller with its sentence`() {
        let below = MemoryDevice(Self.bytes, alignment: 512)
        below.faults.unreadableByte = 600
        #expect(throws: BlockError.inputOutput("memory: byte 600 cannot be read")) {
            try AlignedDevice(below).read(count: 1, at: 513)
        }
    }
}
