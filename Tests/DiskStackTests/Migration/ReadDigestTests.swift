// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import DiskStack

/// The digest of what others read; that of a copy is the oracle, which has one of its own.
struct ReadDigestTests {
    private static let size = 48 << 20 | 12_345

    private static func disk() -> MemoryDevice {
        var generator = SeededGenerator(seed: 3)
        var bytes = [UInt8](repeating: 0, count: size)
        for start in stride(from: 0, to: size, by: 4096) {
            bytes[start] = UInt8(truncatingIfNeeded: generator.next())
        }
        return MemoryDevice(bytes)
    }

    private static func expected(_ disk: MemoryDevice) throws -> DiskDigest {
        let copy = DiskCopy(from: disk)
        let target = MemoryDevice([UInt8](repeating: 0, count: size), isWritable: true)
        try copy.run(to: target, progress: CopyProgress(size: disk.size, cellCount: 1))
        return copy.digest
    }

    private static func pieces(_ length: Int) -> [Range<Int>] {
        stride(from: 0, to: size, by: length).map { $0..<min($0 + length, size) }
    }

    private static func digest(of ranges: [Range<Int>], _ disk: MemoryDevice) -> ReadDigest {
        let digest = ReadDigest(of: disk)
        disk.bytes.withBytes { bytes in
            for range in ranges { digest.read(bytes.extracting(range), at: UInt64(range.lowerBound)) }
        }
        return digest
    }

    @Test(arguments: [1 << 20, 64 << 10, 100_003, 3 << 20, 5_000_000])
    func `what comes in order, in pieces of any length, is not read again`(_ length: Int) throws {
        let disk = Self.disk()
        let expected = try Self.expected(disk)
        let before = disk.readCount
        #expect(try Self.digest(of: Self.pieces(length), disk).total() == expected)
        #expect(disk.readCount == before)
        // Backwards, and with everything twice.
        let twice = Self.pieces(length).reversed().flatMap { [$0, $0] }
        #expect(try Self.digest(of: twice, disk).total() == expected)
        #expect(disk.readCount == before)
    }

    @Test func `what comes in an order that nothing can be kept for is read again, each block once`() throws {
        let disk = Self.disk()
        let expected = try Self.expected(disk)
        let before = disk.readCount
        var generator = SeededGenerator(seed: 4)
        let shuffled = Self.pieces(60_000).shuffled(using: &generator)
        #expect(try Self.digest(of: shuffled, disk).total() == expected)
        #expect(disk.readCount > before && disk.readCount <= before + 49)
    }

    @Test func `it is of what was sent: one byte that is another makes another digest`() throws {
        let disk = Self.disk()
        let expected = try Self.expected(disk)
        var bytes = disk.bytes
        bytes[17 << 20 | 4711] ^= 1
        let digest = ReadDigest(of: disk)
        bytes.withBytes { bytes in
            for range in Self.pieces(256 << 10) {
                digest.read(bytes.extracting(range), at: UInt64(range.lowerBound))
            }
        }
        #expect(try digest.total() != expected)
    }

    @Test func `zeros that were never read count, and a disk that cannot be read again has no digest`() throws {
        let bytes = Self.disk().bytes[..<(4 << 20)] + [UInt8](repeating: 0, count: 4 << 20)
        let disk = MemoryDevice(
            Array(bytes),
            extents: [
                Extent(offset: 0, length: 4 << 20, kind: .data),
                Extent(offset: 4 << 20, length: 4 << 20, kind: .unallocated),
            ])
        let copy = DiskCopy(from: disk)
        try copy.run(
            to: MemoryDevice([UInt8](repeating: 0, count: 8 << 20), isWritable: true),
            progress: CopyProgress(size: disk.size, cellCount: 1))
        let before = disk.readCount
        #expect(try Self.digest(of: [0..<4 << 20], disk).total() == copy.digest)
        #expect(disk.readCount == before)
        disk.faults.unreadableByte = 3
        #expect(throws: BlockError.self) { try Self.digest(of: [5..<4 << 20], disk).total() }
    }
}
