// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing
import TestSupport

@Suite struct ZeroDetectingDeviceTests {
    private static let block = ZeroDetectingDevice.blockSize

    /// Blocks of 4 KiB, with a byte that is not zero where the pattern has an x.
    private func blocks(_ pattern: String, last: Int = block) -> [UInt8] {
        let bytes = pattern.flatMap { mark in
            [UInt8](repeating: 0, count: Self.block - 1) + [mark == "x" ? 1 : 0]
        }
        return Array(bytes.dropLast(Self.block - last))
    }

    @Test func `whole blocks of zeros are told from others, one run for each answer`() throws {
        let device = ZeroDetectingDevice(MemoryDevice(blocks("xx..x.")))
        #expect(
            try device.extents() == [
                Extent(offset: 0, length: 8192, kind: .data), Extent(offset: 8192, length: 8192, kind: .storedZeros),
                Extent(offset: 16384, length: 4096, kind: .data),
                Extent(offset: 20480, length: 4096, kind: .storedZeros),
            ])
    }

    @Test func `the answer for a byte does not depend on where the question starts or ends`() throws {
        let bytes = blocks("x.x..xx", last: 1000)
        let device = ZeroDetectingDevice(MemoryDevice(bytes))
        for offset in stride(from: 0, to: bytes.count, by: 509) {
            for limit in [1, 511, 4095, 4096, 4097, 100_000] as [UInt64] {
                let extent = try device.extent(at: UInt64(offset), limit: limit)
                try #require(extent.offset == UInt64(offset) && 1...limit ~= extent.length)
                for byte in [offset, offset + Int(extent.length) - 1] {
                    let start = byte / Self.block * Self.block
                    let isZero = bytes[start..<min(bytes.count, start + Self.block)].allSatisfy { $0 == 0 }
                    #expect((extent.kind == .storedZeros) == isZero)
                }
            }
        }
    }

    @Test func `a short last block of zeros is zeros`() throws {
        var bytes = blocks("x.", last: 1)
        bytes[Self.block] = 0
        #expect(
            try ZeroDetectingDevice(MemoryDevice(bytes)).extents().last
                == Extent(offset: 4096, length: 1, kind: .storedZeros))
    }

    @Test func `what is not data below is passed on and not read`() throws {
        let kinds: [Extent.Kind] = [.zero, .storedZeros, .unallocated]
        let extents = kinds.enumerated().map { Extent(offset: UInt64($0) * 4096, length: 4096, kind: $1, depth: 3) }
        let below = MemoryDevice(blocks("..."), extents: extents)
        #expect(try ZeroDetectingDevice(below).extents() == extents)
        #expect(below.readCount == 0)
    }

    @Test func `compressed data is looked at, and the depth stays`() throws {
        let below = MemoryDevice(
            blocks("x.x"), extents: [Extent(offset: 0, length: 12288, kind: .compressed, depth: 2)])
        #expect(
            try ZeroDetectingDevice(below).extents() == [
                Extent(offset: 0, length: 4096, kind: .compressed, depth: 2),
                Extent(offset: 4096, length: 4096, kind: .storedZeros, depth: 2),
                Extent(offset: 8192, length: 4096, kind: .compressed, depth: 2),
            ])
    }

    @Test func `an answer does not go beyond what the device below says`() throws {
        let below = MemoryDevice(
            blocks("..."), extents: [Extent(offset: 5000, length: 512, kind: .unallocated)])
        #expect(
            try ZeroDetectingDevice(below).extents() == [
                Extent(offset: 0, length: 5000, kind: .storedZeros),
                Extent(offset: 5000, length: 512, kind: .unallocated),
                Extent(offset: 5512, length: 6776, kind: .storedZeros),
            ])
    }

    @Test(arguments: [false, true])
    func `one answer reads at most 1 MiB`(isZero: Bool) throws {
        let below = MemoryDevice([UInt8](repeating: isZero ? 0 : 1, count: 3 << 20))
        let extent = try ZeroDetectingDevice(below).extent(at: 100, limit: .max)
        #expect(extent == Extent(offset: 100, length: 1 << 20 - 100, kind: isZero ? .storedZeros : .data))
        #expect(below.readCount < 10)
    }

    @Test func `within one answer so much is read as the budget allows`() throws {
        let below = MemoryDevice([UInt8](repeating: 0, count: 1 << 20))
        let device = ZeroDetectingDevice(below)
        // Reads of 16 and 32 KiB.
        #expect(
            try device.extent(at: 100, limit: .max, .mayBlock(Budget(looks: 2)))
                == Extent(offset: 100, length: 48 << 10 - 100, kind: .storedZeros))
        #expect(below.readCount == 2)
        #expect(throws: BlockError.wouldBlock) {
            try device.extent(at: 100, limit: .max, .mayBlock(Budget(looks: 9) { true }))
        }
        #expect(throws: BlockError.wouldBlock) { try device.extent(at: 100, limit: .max, .cachedOnly) }
        #expect(below.readCount == 2)
    }

    @Test func `what cannot be read is data, and what comes before it is told`() throws {
        let below = MemoryDevice([UInt8](repeating: 0, count: 1 << 20))
        below.faults.unreadableByte = 20_000
        let device = ZeroDetectingDevice(below)
        #expect(try device.extent(at: 0, limit: .max) == Extent(offset: 0, length: 16384, kind: .storedZeros))
        #expect(try device.extent(at: 16384, limit: .max) == Extent(offset: 16384, length: 16384, kind: .data))
        #expect(try device.extent(at: 32768, limit: .max).kind == .storedZeros)
        #expect(throws: BlockError.self) { try device.extent(at: 20_000, limit: 1) }
    }

    @Test func `everything else is passed on`() throws {
        let below = MemoryDevice(blocks("x"), isWritable: true)
        let device = ZeroDetectingDevice(below)
        let range = try #require(ByteRange(offset: 1, length: 2))
        try device.write([1, 2], at: 0, .durable)
        try device.zero(range, .mayDiscard)
        try device.discard(range)
        try device.flush()
        device.prefetch(range, Budget(looks: 1))
        #expect(
            below.calls == [
                .write(offset: 0, count: 2, .durable), .zero(range, .mayDiscard), .discard(range), .flush,
                .prefetch(range),
            ])
        #expect(device.isWritable && device.size == 4096 && device.alignment == 1)
        #expect(try device.read(count: 1, at: 4095) == [1])
    }

    @Test func `a byte that is not zero is found wherever it is`() {
        for count in [0, 1, 7, 8, 9, 63, 64, 65, 200] {
            var bytes = [UInt8](repeating: 0, count: count)
            #expect(bytes.withBytes { $0.isZero })
            for index in 0..<count {
                bytes[index] = 0x80
                #expect(!bytes.withBytes { $0.isZero })
                bytes[index] = 0
            }
        }
    }
}
