// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import DiskStack

/// The overlay over a disk in memory, with a scratch file in memory.
@Suite struct OverlayDeviceTests {
    private static func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    /// A disk, its overlay, and the scratch file.
    private struct Stack {
        let disk: MemoryDevice
        let scratch = MemoryDevice([], isWritable: true)
        let overlay: OverlayDevice

        init(_ bytes: [UInt8], extents: [Extent] = []) throws {
            disk = MemoryDevice(bytes, extents: extents)
            let space = try OverlayScratch(scratch, size: UInt64(bytes.count))
            overlay = try #require(OverlayDevice(disk, scratch: space))
        }
    }

    @Test(arguments: [1, 511, 512, 4095, 4096, 4097, 40_000, 131_072, 200_001], 0..<4)
    func `random verbs do what they do to an array, and the disk stays as it is`(_ size: Int, _ seed: Int) throws {
        let bytes = Self.noise(size)
        let stack = try Stack(bytes)
        var exercise = try LayerExercise(stack.overlay, seed: UInt64(seed))
        try exercise.run(size < 5000 ? 400 : 60)
        #expect(stack.disk.bytes == bytes && stack.disk.calls.isEmpty)
        // The scratch file ends with the sector of the last byte.
        #expect(stack.scratch.size <= UInt64(size).roundedUp(to: 4096))
    }

    @Test func `what is given up reads as zeros, in whole units`() throws {
        let stack = try Stack([UInt8](repeating: 7, count: 20_000))
        try stack.overlay.write([UInt8](repeating: 9, count: 20_000), at: 0)
        try stack.overlay.discard(try #require(ByteRange(offset: 100, length: 19_900)))
        let found = try stack.overlay.read(count: 20_000, at: 0)
        #expect(found == [UInt8](repeating: 9, count: 4096) + [UInt8](repeating: 0, count: 20_000 - 4096))
        // The space of the last unit, which is not full, is given back, too.
        #expect(stack.scratch.calls.last == .discard(try #require(ByteRange(offset: 4096, length: 16_384))))
    }

    @Test func `zeros keep their space unless it may go, and take none`() throws {
        let stack = try Stack([UInt8](repeating: 7, count: 40_960))
        let all = try #require(ByteRange(offset: 0, length: 40_960))
        try stack.overlay.zero(all, .fastOnly)
        #expect(stack.scratch.calls.isEmpty)
        try stack.overlay.write([1], at: 5000)
        try stack.overlay.zero(all, [])
        #expect(!stack.scratch.calls.contains { if case .discard = $0 { true } else { false } })
        try stack.overlay.zero(all, .mayDiscard)
        #expect(stack.scratch.calls.contains { if case .discard = $0 { true } else { false } })
        #expect(try stack.overlay.read(count: 40_960, at: 0) == [UInt8](repeating: 0, count: 40_960))
    }

    @Test func `extents are those of the disk, one layer deeper, but for what was changed`() throws {
        let stack = try Stack(
            [UInt8](repeating: 0, count: 65_536),
            extents: [
                Extent(offset: 0, length: 16_384, kind: .unallocated),
                Extent(offset: 16_384, length: 16_384, kind: .compressed, depth: 2),
            ])
        try stack.overlay.write([1], at: 8192)
        try stack.overlay.zero(try #require(ByteRange(offset: 40_960, length: 8192)), [])
        #expect(
            try stack.overlay.extents() == [
                Extent(offset: 0, length: 8192, kind: .unallocated),
                Extent(offset: 8192, length: 4096, kind: .data),
                Extent(offset: 12_288, length: 4096, kind: .unallocated),
                Extent(offset: 16_384, length: 16_384, kind: .compressed, depth: 3),
                Extent(offset: 32_768, length: 8192, kind: .data, depth: 2),
                Extent(offset: 40_960, length: 8192, kind: .zero),
                Extent(offset: 49_152, length: 16_384, kind: .data, depth: 2),
            ])
    }

    @Test func `the scratch file holds nothing that was written or copied`() throws {
        let word = Array("pattern of the disk".utf8)
        let stack = try Stack(Array(repeatElement(word, count: 3000).joined()))
        let written = Array(repeatElement(Array("what a client wrote".utf8), count: 1000).joined())
        try stack.overlay.write(written, at: 1000)
        try stack.overlay.write([0], at: 30_000)
        let contents = stack.scratch.bytes
        #expect(contents.count >= written.count)
        for word in ["pattern of the disk", "client"] { #expect(!contents.contains(Array(word.utf8))) }
        // The same plaintext is nowhere the same ciphertext, and another overlay has another key.
        let other = try Stack(stack.disk.bytes)
        try other.overlay.write(written, at: 1000)
        #expect(other.scratch.bytes[0..<4096] != contents[0..<4096])
        try stack.overlay.write([UInt8](repeating: 5, count: 8192), at: 0)
        #expect(stack.scratch.bytes[0..<4096] != stack.scratch.bytes[4096..<8192])
    }

    @Test func `a small write reads and writes one unit, and the next one in it no more of the disk`() throws {
        let stack = try Stack(Self.noise(65_536))
        try stack.overlay.write([1, 2, 3], at: 5000)
        #expect(stack.disk.readCount == 1)
        #expect(stack.scratch.calls == [.grow(8192), .write(offset: 4096, count: 4096)])
        try stack.overlay.write([4, 5, 6], at: 6000)
        #expect(stack.disk.readCount == 1)
        // Whole units are written without being read.
        try stack.overlay.write([UInt8](repeating: 1, count: 12_288), at: 16_384)
        #expect(stack.disk.readCount == 1)
    }

    @Test func `when there is no room, the write fails, nothing else has changed, and later it succeeds`() throws {
        let bytes = Self.noise(65_536)
        let stack = try Stack(bytes)
        try stack.overlay.write([1], at: 0)
        stack.scratch.faults.maximumSize = 16_384
        let failure = #expect(throws: BlockError.self) {
            try stack.overlay.write([UInt8](repeating: 1, count: 8192), at: 30_000)
        }
        #expect(failure?.code == .noSpace)
        #expect(try stack.overlay.read(count: 65_536, at: 0) == [1] + bytes.dropFirst())
        stack.scratch.faults.changeFailure = .noSpace("full")
        #expect(throws: BlockError.noSpace("full")) { try stack.overlay.write([2, 3], at: 12_000) }
        #expect(try stack.overlay.read(count: 65_536, at: 0) == [1] + bytes.dropFirst())
        stack.scratch.faults = MemoryDevice.Faults()
        try stack.overlay.write([2, 3], at: 12_000)
        #expect(try stack.overlay.read(count: 2, at: 12_000) == [2, 3])
    }

    @Test func `what must not wait does not, and what is in memory is read`() throws {
        let stack = try Stack(Self.noise(65_536))
        try stack.overlay.write([UInt8](repeating: 1, count: 4096), at: 0)
        try stack.overlay.zero(try #require(ByteRange(offset: 4096, length: 4096)), [])
        stack.disk.faults.nothingIsCached = true
        #expect(try stack.overlay.read(count: 8192, at: 0, .cachedOnly).count == 8192)
        #expect(throws: BlockError.wouldBlock) { try stack.overlay.read(count: 1, at: 8192, .cachedOnly) }
        #expect(throws: BlockError.wouldBlock) { try stack.overlay.extent(at: 8192, limit: 1, .cachedOnly) }
        stack.scratch.faults.nothingIsCached = true
        #expect(throws: BlockError.wouldBlock) { try stack.overlay.read(count: 1, at: 0, .cachedOnly) }
        #expect(try stack.overlay.extent(at: 0, limit: 1, .cachedOnly).kind == .data)
    }

    @Test func `flushes succeed and reach nothing; prefetches reach what has the bytes`() throws {
        let stack = try Stack(Self.noise(65_536))
        try stack.overlay.write([UInt8](repeating: 1, count: 8192), at: 4096, .durable)
        stack.overlay.flush()
        #expect(!stack.scratch.calls.contains(.flush))
        stack.overlay.prefetch(0, 16_384, Budget(looks: 100))
        let ranges = [(0, 4096), (12_288, 4096)].map { ByteRange(offset: $0.0, length: $0.1) }
        #expect(stack.disk.calls == ranges.compactMap { $0 }.map { .prefetch($0) })
        #expect(stack.scratch.calls.last == .prefetch(try #require(ByteRange(offset: 4096, length: 8192))))
    }

    /// Each thread has bytes of its own in every unit: none may lose what another has written beside them.
    @Test func `threads that write to the same units lose nothing of each other`() throws {
        let (threads, units) = (4, 64)
        let stack = try Stack([UInt8](repeating: 0xEE, count: units * 4096))
        let part = 4096 / threads
        let failures = Mutex<[String]>([])
        DispatchQueue.concurrentPerform(iterations: threads) { thread in
            var random = SeededGenerator(seed: UInt64(thread))
            var expected = [UInt8](repeating: 0xEE, count: units)
            do {
                for _ in 0..<600 {
                    let unit = random.number(below: units)
                    let place = UInt64(unit * 4096 + thread * part)
                    let found = try stack.overlay.read(count: part, at: place)
                    if found != [UInt8](repeating: expected[unit], count: part) {
                        return failures.withLock { $0.append("thread \(thread), unit \(unit)") }
                    }
                    expected[unit] = UInt8(random.number(below: 200))
                    if expected[unit] == 0, let range = ByteRange(offset: place, length: UInt64(part)) {
                        try stack.overlay.zero(range, .mayDiscard)
                    } else {
                        try stack.overlay.write([UInt8](repeating: expected[unit], count: part), at: place)
                    }
                }
            } catch { failures.withLock { $0.append("\(error)") } }
        }
        #expect(failures.withLock { $0 } == [])
    }

    /// What was punched out of the scratch file decrypts to noise, which no reader may get.
    @Test func `a reader gets what was there before or after a unit is given up, and never noise`() throws {
        let file = try FileDevice.scratch(in: "/tmp")
        let disk = MemoryDevice([UInt8](repeating: 7, count: 65_536))
        let overlay = try #require(OverlayDevice(disk, scratch: try OverlayScratch(file, size: 65_536)))
        let isDone = Atomic(false)
        let noise = Atomic(0)
        DispatchQueue.concurrentPerform(iterations: 3) { thread in
            if thread == 0 {
                for _ in 0..<3000 {
                    try? overlay.write([UInt8](repeating: 9, count: 16_384), at: 16_384)
                    if let range = ByteRange(offset: 16_384, length: 16_384) { try? overlay.discard(range) }
                }
                isDone.store(true, ordering: .releasing)
            } else {
                while !isDone.load(ordering: .acquiring) {
                    let bytes = (try? overlay.read(count: 16_384, at: 16_384)) ?? [1]
                    if bytes.contains(where: { $0 != 9 && $0 != 0 && $0 != 7 }) { noise.add(1, ordering: .relaxed) }
                }
            }
        }
        #expect(noise.load(ordering: .relaxed) == 0)
    }
}
