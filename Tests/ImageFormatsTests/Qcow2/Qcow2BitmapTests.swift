// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

/// What a bitmap says of the disk.
@Suite struct Qcow2BitmapTests {
    private typealias Fixture = Qcow2BitmapFixture

    private struct Run: Equatable {
        let isDirty: Bool
        let length: UInt64
    }

    private func run(_ bitmap: Qcow2Bitmap, _ offset: UInt64, _ limit: UInt64 = .max) throws -> Run {
        let run = try bitmap.run(at: offset, limit: limit)
        return Run(isDirty: run.isDirty, length: run.length)
    }

    /// The whole disk, neighbours joined.
    private func map(_ bitmap: Qcow2Bitmap, size: UInt64 = Fixture.diskSize) throws -> [Run] {
        var runs: [Run] = []
        var offset: UInt64 = 0
        while offset < size {
            let next = try run(bitmap, offset)
            try #require(next.length > 0)
            offset += next.length
            if let last = runs.last, last.isDirty == next.isDirty {
                runs[runs.count - 1] = Run(isDirty: last.isDirty, length: last.length + next.length)
            } else {
                runs.append(next)
            }
        }
        #expect(offset == size)
        return runs
    }

    @Test func `bits are counted from the lowest of each byte, and each stands for as many bytes as it says`() throws {
        var fixture = Fixture()
        for bit in [0, 1, 9, 64, 127, 128, 4095, 4096, 5999] { fixture.setBit(bit) }
        let bitmap = try fixture.bitmap()
        #expect(
            try map(bitmap) == [
                Run(isDirty: true, length: 2 * 512), Run(isDirty: false, length: 7 * 512),
                Run(isDirty: true, length: 512), Run(isDirty: false, length: 54 * 512),
                Run(isDirty: true, length: 512), Run(isDirty: false, length: 62 * 512),
                Run(isDirty: true, length: 2 * 512), Run(isDirty: false, length: 3966 * 512),
                Run(isDirty: true, length: 2 * 512), Run(isDirty: false, length: 1902 * 512),
                Run(isDirty: true, length: 512),
            ])
        #expect(try run(bitmap, 700) == Run(isDirty: true, length: 324))
        #expect(try run(bitmap, 700, 10) == Run(isDirty: true, length: 10))
        #expect(try run(bitmap, 4096 * 512 - 1, 2) == Run(isDirty: true, length: 2))
        #expect(bitmap.name == "b" && bitmap.granularityBits == 9)
        #expect(!bitmap.isEnabled && !bitmap.isInconsistent && bitmap.refusal == nil)
    }

    @Test func `every bit alone is found`() throws {
        for bit in stride(from: 0, to: 6000, by: 37) {
            var fixture = Fixture()
            fixture.setBit(bit)
            let bitmap = try fixture.bitmap()
            let place = UInt64(bit) * 512
            #expect(try run(bitmap, place) == Run(isDirty: true, length: 512))
            if bit > 0 { #expect(try run(bitmap, 0) == Run(isDirty: false, length: place)) }
        }
    }

    @Test func `clusters without bits are all zeros, or all ones`() throws {
        let mixed = try Fixture(table: [1, 0]).bitmap()
        #expect(
            try map(mixed) == [Run(isDirty: true, length: 4096 * 512), Run(isDirty: false, length: 1904 * 512)])
        #expect(try run(try Fixture(table: [0, 0]).bitmap(), 5) == Run(isDirty: false, length: Fixture.diskSize - 5))
        #expect(try run(try Fixture(table: [1, 1]).bitmap(), 0) == Run(isDirty: true, length: Fixture.diskSize))
    }

    @Test func `a bit may stand for more than the disk has`() throws {
        var entry = Fixture.Entry()
        entry.granularityBits = 31
        entry.tableCount = 1
        var fixture = Fixture([entry])
        #expect(try map(try fixture.bitmap()) == [Run(isDirty: false, length: Fixture.diskSize)])
        fixture.setBit(0)
        #expect(try map(try fixture.bitmap()) == [Run(isDirty: true, length: Fixture.diskSize)])
    }

    @Test(arguments: [0x2, 0x100, 1 << 56, 1 << 63, UInt64(Fixture.bitsOffset) | 1] as [UInt64])
    func `an entry of the table with reserved bits is an error where it counts`(entry: UInt64) throws {
        let bitmap = try Fixture(table: [0, entry]).bitmap()
        #expect(try run(bitmap, 0) == Run(isDirty: false, length: 4096 * 512))
        #expect {
            try run(bitmap, 4096 * 512)
        } throws: { "\($0)".contains("bitmap 'b': entry 1") && "\($0)".contains("has reserved bits") }
    }

    @Test(
        arguments: [(1 << 40, "outside the file"), (0x0080_0000_0000_0000, "outside the file")] as [(UInt64, String)])
    func `bits that are not in the file are an error`(entry: UInt64, part: String) throws {
        let bitmap = try Fixture(table: [entry, 1]).bitmap()
        #expect { try run(bitmap, 0) } throws: { ($0 as? BlockError)?.code == .damaged && "\($0)".contains(part) }
        #expect(try run(bitmap, 4096 * 512) == Run(isDirty: true, length: 1904 * 512))
    }

    @Test func `parts that were looked at are kept`() throws {
        let device = Fixture().image.device
        let bitmap = try #require(try Fixture().bitmaps(device).first)
        _ = try bitmap.run(at: 0, limit: .max)
        let before = device.readCount
        _ = try map(bitmap)
        #expect(device.readCount == before)
    }

    @Test func `no question is answered beyond the disk`() throws {
        let bitmap = try Fixture().bitmap()
        for (offset, limit) in [(Fixture.diskSize, 1), (.max, 1), (0, 0)] as [(UInt64, UInt64)] {
            #expect { try bitmap.run(at: offset, limit: limit) } throws: { ($0 as? BlockError)?.code == .outOfRange }
        }
    }

    @Test func `clusters of the same kind are joined`() throws {
        // What is joined is all of one kind.
        var entry = Fixture.Entry()
        entry.tableCount = 60
        let fixture = Fixture([entry], table: (0..<60).map { _ in 1 }, size: 94 * 64 * 512)
        #expect(try map(try fixture.bitmap(), size: 94 * 64 * 512).count == 1)
    }
}
