// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Testing
import TestSupport

@Suite struct StripedDeviceTests {
    /// Three stripes of four chunks of 8 bytes; each byte of the volume is its own offset.
    private static let chunk = 8
    private static let count = 3
    private static let bytes = (0..<96).map { UInt8($0) }

    private static func stripe(_ number: Int) -> [UInt8] {
        stride(from: number * chunk, to: bytes.count, by: chunk * count).flatMap { bytes[$0..<($0 + chunk)] }
    }

    @Test func `chunks take turns, wherever a read begins and ends`() throws {
        let device = try #require(
            StripedDevice((0..<3).map { MemoryDevice(Self.stripe($0)) }, chunk: 8))
        #expect(device.size == 96)
        for start in 0..<96 {
            for end in start...96 {
                #expect(try device.read(count: end - start, at: UInt64(start)) == Array(Self.bytes[start..<end]))
            }
        }
        #expect(throws: BlockError.self) { try device.read(count: 2, at: 95) }
    }

    @Test func `stripes that want whole sectors are read in whole sectors`() throws {
        let device = try #require(
            StripedDevice((0..<3).map { MemoryDevice(Self.stripe($0), alignment: 4) }, chunk: 8))
        #expect(try device.read(count: 25, at: 3) == Array(Self.bytes[3..<28]))
    }

    @Test func `stripes of other lengths, and chunks that do not divide them, make no volume`() {
        let even = MemoryDevice([UInt8](repeating: 0, count: 32))
        #expect(StripedDevice([even, MemoryDevice([UInt8](repeating: 0, count: 24))], chunk: 8) == nil)
        #expect(StripedDevice([even, even], chunk: 12) == nil)
        #expect(StripedDevice([even, even], chunk: 0) == nil)
        #expect(StripedDevice([], chunk: 8) == nil)
    }

    @Test func `every byte is said to be what its stripe says of it, and one answer covers many chunks`() throws {
        // Zero: the second half of stripe 0, bytes 13 to 32 of stripe 1, all but the first two bytes of stripe 2.
        let zeros: [Range<Int>] = [16..<32, 13..<32, 2..<32]
        let stripes = zeros.enumerated().map { number, range in
            MemoryDevice(
                Self.stripe(number),
                extents: [Extent(offset: UInt64(range.lowerBound), length: UInt64(range.count), kind: .zero)])
        }
        let device = try #require(StripedDevice(stripes, chunk: 8))
        for offset in 0..<96 {
            for limit in [1, 5, 8, 9, 30, 96, .max] as [UInt64] {
                let extent = try device.extent(at: UInt64(offset), limit: limit)
                try #require(extent.offset == UInt64(offset) && 1...limit ~= extent.length)
                try #require(offset + Int(extent.length) <= 96)
                for byte in offset..<(offset + Int(extent.length)) {
                    let inside = byte / 24 * 8 + byte % 8
                    #expect((extent.kind == .zero) == zeros[byte % 24 / 8].contains(inside))
                }
            }
        }
        #expect(try device.extents().last == Extent(offset: 37, length: 59, kind: .zero))
    }

    @Test func `each stripe is told to prefetch its part`() throws {
        let stripes = (0..<3).map { MemoryDevice(Self.stripe($0)) }
        let device = try #require(StripedDevice(stripes, chunk: 8))
        device.prefetch(5, 40, Budget(looks: 10))
        let parts = try [(5, 11), (0, 16), (0, 13)].map { try #require(ByteRange(offset: $0, length: $1)) }
        for (stripe, part) in zip(stripes, parts) { #expect(stripe.calls == [.prefetch(part)]) }
    }
}
