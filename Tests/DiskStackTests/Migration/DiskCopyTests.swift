// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import TestSupport
import Testing

@testable import DiskStack

struct DiskCopyTests {
    private static let mebibyte = 1 << 20

    /// Some blocks of noise, some of zeros, and a last one that is not full.
    private static func contents(_ seed: UInt64 = 1) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        var bytes = [UInt8](repeating: 0, count: 6 * mebibyte + 12_345)
        for (start, count) in [(0, 5_000), (mebibyte + 4096, 4096), (3 * mebibyte - 100, 200), (6 * mebibyte, 12_345)] {
            for index in start..<start + count { bytes[index] = UInt8(truncatingIfNeeded: generator.next()) | 1 }
        }
        return bytes
    }

    private static func zeros(as source: MemoryDevice) -> MemoryDevice {
        MemoryDevice([UInt8](repeating: 0, count: Int(source.size)), isWritable: true)
    }

    @Test
    func `every byte is copied, zeros are not written, and the end is on disk`() throws {
        let source = MemoryDevice(Self.contents())
        let target = Self.zeros(as: source)
        let progress = CopyProgress(size: source.size, cellCount: 10)
        let copy = DiskCopy(from: source)
        try copy.run(to: target, progress: progress)
        #expect(target.bytes == source.bytes)
        #expect(target.calls.last == .flush)
        let written = target.calls.reduce(0) { if case .write(_, let count, _) = $1 { $0 + count } else { $0 } }
        #expect(written == 8192 + 4096 + 8192 + 12_345)
        #expect(progress.total[.data] == UInt64(written))
        #expect(progress.total.done == source.size)
        #expect(progress.map.count == 10 && progress.map.map(\.length).reduce(0, +) == source.size)
        #expect(progress.map.allSatisfy { $0.length == $0.amounts.done })
    }

    @Test
    func `where the new disk holds noise, zeros are written`() throws {
        let bytes = Self.contents()
        // The device knows of the zeros between the blocks.
        let zeros = Extent(offset: 4 << 20, length: 2 << 20, kind: .zero)
        let source = MemoryDevice(
            bytes,
            extents: [Extent(offset: 0, length: 4 << 20, kind: .data), zeros])
        let target = MemoryDevice([UInt8](repeating: 0xA5, count: bytes.count), isWritable: true)
        var options = DiskCopy.Options()
        options.isTargetZero = false
        let progress = CopyProgress(size: source.size, cellCount: 10)
        let copy = DiskCopy(from: source, options)
        try copy.run(to: target, progress: progress)
        #expect(target.bytes == bytes)
        #expect(progress.total.done == source.size)
    }

    @Test
    func `the digest is that of the digests of blocks, whoever knows of the zeros`() throws {
        let bytes = Self.contents()
        let sha256 = try HashAlgorithm("sha256")
        func digest(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
            var digest = [UInt8](repeating: 0, count: 32)
            bytes.withBytes { bytes in digest.withMutableBytes { sha256.hash(bytes, into: &$0) } }
            return digest
        }
        let all = stride(from: 0, to: bytes.count, by: Self.mebibyte).flatMap {
            digest(bytes[$0..<min($0 + Self.mebibyte, bytes.count)])
        }
        let expected = digest(all[...]).hexadecimal()
        for extents in [
            [],
            [
                Extent(offset: 0, length: 4 << 20, kind: .data),
                Extent(offset: 4 << 20, length: 2 << 20, kind: .unallocated),
            ],
        ] {
            let source = MemoryDevice(bytes, extents: extents)
            let copy = DiskCopy(from: source)
            try copy.run(to: Self.zeros(as: source), progress: CopyProgress(size: source.size, cellCount: 10))
            #expect(copy.digest.description == expected)
            let found = try copy.verify(source, progress: CopyProgress(size: source.size, cellCount: 3))
            #expect(found.digest.description == expected && found.difference == nil)
        }
    }

    @Test(arguments: [0, 4_999, 1 << 20, (3 << 20) + 50, (5 << 20) + 1, (6 << 20) + 12_344])
    func `one byte of a copy that is another is found, with its place`(_ place: Int) throws {
        let source = MemoryDevice(Self.contents())
        let copy = DiskCopy(from: source)
        try copy.run(to: Self.zeros(as: source), progress: CopyProgress(size: source.size, cellCount: 10))
        var bytes = source.bytes
        bytes[place] ^= 0x10
        let found = try copy.verify(MemoryDevice(bytes), progress: CopyProgress(size: source.size, cellCount: 3))
        #expect(found.difference == ByteRange(offset: UInt64(place), length: 1))
        #expect(found.digest != copy.digest)
    }

    @Test
    func `a byte that cannot be read costs its sector, and nothing else`() throws {
        let source = MemoryDevice(Self.contents())
        source.faults.unreadableByte = UInt64(3 << 20) + 17
        let target = Self.zeros(as: source)
        let strict = CopyProgress(size: source.size, cellCount: 10)
        #expect { try DiskCopy(from: source).run(to: target, progress: strict) } throws: { error in
            if case DiskCopy.Failure.reading = error { true } else { false }
        }
        var options = DiskCopy.Options()
        options.toleratesUnreadable = true
        let progress = CopyProgress(size: source.size, cellCount: 10)
        let copy = DiskCopy(from: source, options)
        try copy.run(to: target, progress: progress)
        #expect(copy.unreadableRanges == [ByteRange(offset: 3 << 20, length: 512)])
        #expect(progress.total[.unreadable] == 512)
        #expect(progress.total.done == source.size)
        var expected = source.bytes
        for index in (3 << 20)..<(3 << 20) + 512 { expected[index] = 0 }
        #expect(target.bytes == expected)
        // What has been read is what is compared.
        let found = try copy.verify(target, progress: CopyProgress(size: source.size, cellCount: 3))
        #expect(found.difference == nil)
    }

    @Test
    func `a new disk that takes no more ends it, with the place`() {
        let source = MemoryDevice(Self.contents())
        let target = Self.zeros(as: source)
        target.faults.changeFailure = .noSpace("full")
        let progress = CopyProgress(size: source.size, cellCount: 10)
        #expect { try DiskCopy(from: source).run(to: target, progress: progress) } throws: { error in
            if case DiskCopy.Failure.writing(_, let error) = error { error.code == .noSpace } else { false }
        }
    }

    @Test
    func `blocks grow with the disk`() {
        #expect(DiskBlocks(diskSize: 1).blockSize == 1 << 20)
        #expect(DiskBlocks(diskSize: 1 << 39).blockSize == 1 << 20)
        #expect(DiskBlocks(diskSize: (1 << 39) + 1).blockSize == 2 << 20)
        #expect(DiskBlocks(diskSize: 16 << 40).count == 1 << 19)
        #expect(DiskBlocks(diskSize: (1 << 20) + 1).count == 2)
        #expect(DiskBlocks(diskSize: (1 << 20) + 1).range(1) == ByteRange(offset: 1 << 20, length: 1))
    }

    @Test
    func `a terabyte of zeros that the device knows takes no reads`() throws {
        let source = HoleDevice(size: 1 << 40)
        let target = HoleDevice(size: 1 << 40)
        let progress = CopyProgress(size: source.size, cellCount: 10)
        let copy = DiskCopy(from: source)
        try copy.run(to: target, progress: progress)
        #expect(progress.total[.zeros] == 1 << 40)
        #expect(try copy.verify(target, progress: CopyProgress(size: source.size, cellCount: 10)).difference == nil)
    }

    /// Nothing but a hole, which must not be read.
    private final class HoleDevice: BlockDevice {
        let size: UInt64
        let isWritable = true
        let alignment = 1
        let depth = 8

        init(size: UInt64) { self.size = size }

        func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
            throw .inputOutput("nobody reads a hole")
        }
        func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
            Extent(offset: offset, length: min(limit, 1 << 30), kind: .unallocated)
        }
        func prefetch(_ range: ByteRange, _ budget: Budget) {}
        func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
            throw .inputOutput("nobody writes to a hole")
        }
        func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) { throw .notSupported }
        func discard(_ range: ByteRange) throws(BlockError) {}
        func flush() {}
    }
}
