// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
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

    @Test func `what is read beside a change of the same unit is what was there, or must wait`() throws {
        let below = HalfWritten()
        let device = AlignedDevice(below)
        try device.write(Array("first".utf8), at: 300)
        below.stops.withLock { $0 = true }
        let found = Locked<[UInt8]?>(nil)
        let ends = DispatchGroup()
        DispatchQueue.global().async(group: ends) { try? device.write(Array("other".utf8), at: 10) }
        below.isHalfWay.wait()
        #expect(throws: BlockError.wouldBlock) { try device.read(count: 5, at: 300, .cachedOnly) }
        DispatchQueue.global().async(group: ends) {
            let bytes = try? device.read(count: 5, at: 300)
            found.withLock { $0 = bytes }
        }
        below.goesOn.signal()
        ends.wait()
        #expect(found.withLock { $0 } == Array("first".utf8))
        #expect(try device.read(count: 5, at: 10) == Array("other".utf8))
    }
}

/// A unit of 512 bytes that is noise while it is written, as half an encrypted sector is.
private final class HalfWritten: BlockDevice {
    let size: UInt64 = 512
    let alignment = 512
    let depth = 8
    let isWritable = true
    private let state = Locked((bytes: [UInt8](repeating: 0, count: 512), isBeingWritten: false))
    /// Do writes wait half-way until they may go on?
    let stops = Locked(false)
    let isHalfWay = DispatchSemaphore(value: 0)
    let goesOn = DispatchSemaphore(value: 0)

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        let bytes = state.withLock { $0.isBeingWritten ? [UInt8](repeating: 0xEE, count: 512) : $0.bytes }
        bytes.withBytes { buffer.copy(from: $0) }
    }

    func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        state.withLock { $0.isBeingWritten = true }
        if stops.withLock({ $0 }) {
            isHalfWay.signal()
            goesOn.wait()
        }
        var copy = [UInt8](repeating: 0, count: 512)
        copy.withMutableBytes { $0.copy(from: bytes.bytes) }
        state.withLock { $0 = (copy, false) }
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        Extent(offset: offset, length: 512 - offset, kind: .data)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) {}
    func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {}
    func discard(_ range: ByteRange) throws(BlockError) {}
    func flush() throws(BlockError) {}
}
