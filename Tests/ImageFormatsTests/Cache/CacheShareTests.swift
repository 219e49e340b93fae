// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import TestSupport
import Testing

@testable import ImageFormats

/// Tables that are changed in memory, and written in an order.
@Suite struct CacheShareTests {
    private static let sliceBytes: UInt64 = 512
    private let file: ScriptedFile
    private let share: CacheShare

    init() {
        file = ScriptedFile([UInt8](repeating: 0, count: 2 << 20))
        share = CacheShare(of: ImageCache(), for: file)
    }

    /// The slice of 64 words with this number.
    private func slice(_ number: Int) -> ImageCache.Key { share.key(UInt64(number) * Self.sliceBytes, 64) }

    private func words(_ number: Int, _ mode: ReadMode = .mayBlock) throws -> [UInt64] {
        try share.words(at: UInt64(number) * Self.sliceBytes, count: 64, mode)
    }

    /// Sets all words of a slice.
    private func set(_ number: Int, to value: UInt64, after earlier: [Int] = []) throws {
        try share.change(slice(number), after: earlier.map(slice)) { words in
            for index in words.indices { words[index] = value }
        }
    }

    /// What the file has of a slice.
    private func stored(_ number: Int) throws -> [UInt64] {
        try file.memory.readEntries(count: 64, at: UInt64(number) * Self.sliceBytes, .mayBlock)
    }

    private func filled(_ value: UInt64) -> [UInt64] { [UInt64](repeating: value, count: 64) }

    private func write(_ number: Int) -> MemoryDevice.Call {
        .write(offset: UInt64(number) * Self.sliceBytes, count: Int(Self.sliceBytes))
    }

    // MARK: Order

    @Test func `a reference count is on disk before the L2 entry that needs it, and that one before the L1 entry`()
        throws
    {
        let (l1, l2, refcounts, other) = (0, 1, 2, 3)
        try set(refcounts, to: 1)
        try set(l2, to: 2, after: [refcounts])
        try set(l1, to: 3, after: [l2])
        try set(other, to: 4)
        #expect(file.memory.calls.isEmpty)
        try share.writeChanges()
        #expect(
            file.memory.calls == [write(refcounts), write(other), .flush, write(l2), .flush, write(l1), .flush])
        for (number, value) in [(refcounts, 1), (l2, 2), (l1, 3), (other, 4)] as [(Int, UInt64)] {
            #expect(try stored(number) == filled(value))
        }
        try share.writeChanges()
        #expect(file.memory.calls.count == 7, "nothing has been changed since")
    }

    @Test func `the order counts only for what has not been written yet`() throws {
        try set(1, to: 1)
        try share.writeChanges()
        try set(0, to: 2, after: [1, 5])
        try share.writeChanges()
        #expect(file.memory.calls == [write(1), .flush, write(0), .flush])
    }

    @Test func `a change that would close a circle comes after what it waits for is on disk`() throws {
        try set(0, to: 1)
        try set(1, to: 2, after: [0])
        try set(2, to: 3, after: [1])
        // The cluster is freed again: now the entry has to go first.
        try set(0, to: 4, after: [2])
        #expect(file.memory.calls == [write(0), .flush, write(1), .flush, write(2), .flush])
        #expect(try stored(0) == filled(1))
        try share.writeChanges()
        #expect(file.memory.calls.suffix(2) == [write(0), .flush])
        #expect(try stored(0) == filled(4))
    }

    @Test func `a slice that waits for itself is written once before`() throws {
        try set(0, to: 1)
        try set(0, to: 2, after: [0])
        #expect(try stored(0) == filled(1))
        try share.writeChanges()
        #expect(try stored(0) == filled(2))
    }

    // MARK: Failures

    @Test func `a write that fails keeps the change, and what waits for it is not written`() throws {
        try set(2, to: 1)
        try set(1, to: 2, after: [2])
        file.script.unwritablePlace = 2 * Self.sliceBytes
        #expect(throws: BlockError.inputOutput("byte 1024 cannot be written")) { try share.writeChanges() }
        #expect(file.memory.calls.isEmpty)
        #expect(try words(2, .cachedOnly) == filled(1))
        file.script = ScriptedFile.Script()
        try share.writeChanges()
        #expect(file.memory.calls == [write(2), .flush, write(1), .flush])
    }

    @Test func `what is written after a flush that failed is written again`() throws {
        try set(2, to: 1)
        try set(1, to: 2, after: [2])
        file.script.flushFails = true
        #expect(throws: BlockError.inputOutput("the file cannot be flushed")) { try share.writeChanges() }
        #expect(file.memory.calls == [write(2)], "the slice that waits is not written")
        file.script = ScriptedFile.Script()
        try share.writeChanges()
        #expect(file.memory.calls == [write(2), write(2), .flush, write(1), .flush])
    }

    @Test func `a change for which there is no room is not made when nothing can be written`() throws {
        for number in 0..<ChangedSlices.maximumCount { try set(number, to: 1) }
        file.script.flushFails = true
        try set(0, to: 2)
        #expect(throws: BlockError.self) { try set(1000, to: 1) }
        #expect(try words(1000) == filled(0))
        #expect(try words(0) == filled(2))
        file.script = ScriptedFile.Script()
        try set(1000, to: 1)
        #expect(try stored(0) == filled(2))
        #expect(try words(1000) == filled(1))
    }

    @Test func `a slice that cannot be read is not changed`() throws {
        file.memory.faults.unreadableByte = 5
        #expect(throws: BlockError.self) { try set(0, to: 1) }
        file.memory.faults.unreadableByte = nil
        try share.writeChanges()
        #expect(file.memory.calls.isEmpty)
    }

    // MARK: Memory

    @Test func `changes take bounded memory and none is lost`() throws {
        for number in 0..<2000 {
            try set(number, to: UInt64(number) + 1)
            let written = file.memory.calls.count { $0 != .flush }
            #expect(number + 1 - written <= ChangedSlices.maximumCount)
        }
        for number in 0..<2000 { #expect(try words(number) == filled(UInt64(number) + 1)) }
        try share.writeChanges()
        for number in 0..<2000 { #expect(try stored(number) == filled(UInt64(number) + 1)) }
    }

    @Test func `what is dropped for want of room is never a change`() throws {
        // 6 MiB in slices of 4 KiB: more than all that is kept.
        let file = MemoryDevice([UInt8](repeating: 0, count: 6 << 20), isWritable: true)
        let share = CacheShare(of: ImageCache(), for: file)
        try share.change(share.key(0, 512)) { $0[7] = 1 }
        for number in 1..<(UInt64(6) << 8) { _ = try share.words(at: number << 12, count: 512, .mayBlock) }
        let readCount = file.readCount
        #expect(try share.words(at: 0, count: 512, .cachedOnly)[7] == 1)
        #expect(file.readCount == readCount)
        _ = try share.words(at: 1 << 12, count: 512, .mayBlock)
        #expect(file.readCount == readCount + 1, "an unchanged slice has made room")
    }

    @Test func `two images that share a cache do not see each other's tables`() throws {
        let cache = ImageCache()
        let files = [ScriptedFile(file.memory.bytes), ScriptedFile(file.memory.bytes)]
        let shares = files.map { CacheShare(of: cache, for: $0) }
        try shares[0].change(shares[0].key(0, 64)) { $0[0] = 1 }
        #expect(try shares[1].words(at: 0, count: 64, .mayBlock)[0] == 0)
        try shares[1].writeChanges()
        #expect(files.allSatisfy { $0.memory.calls.isEmpty })
        try shares[0].writeChanges()
        #expect(files[0].memory.calls.count == 2)
    }

    // MARK: Forgetting

    @Test func `a table whose place holds something else is read anew`() throws {
        try set(0, to: 1)
        #expect(try words(1) == filled(0))
        // The second word of slice 0, and no more of slice 1 than its first byte.
        try share.forget(try #require(ByteRange(offset: 8, length: Self.sliceBytes - 7)))
        #expect(try stored(0) == filled(1), "the change was written before, and is not any more")
        try file.memory.write([UInt8](repeating: 9, count: 1024), at: 0)
        let nines = filled(0x0909_0909_0909_0909)
        #expect(try words(0) == nines)
        #expect(try words(1) == nines)
    }

    @Test func `what lies beside a forgotten place is kept`() throws {
        let before = try (words(0), words(2))
        try share.forget(try #require(ByteRange(offset: Self.sliceBytes, length: Self.sliceBytes)))
        let readCount = file.memory.readCount
        #expect(try words(0) == before.0)
        #expect(try words(2) == before.1)
        #expect(file.memory.readCount == readCount)
    }

    @Test func `an unpacked cluster is forgotten with its place`() throws {
        let cluster = CompressedCluster(offset: HostOffset(1000), length: 100, isExact: true)
        /// The byte that the cluster is full of; the value is what it takes to unpack it.
        func read(_ value: UInt8) throws -> UInt8 {
            var byte: [UInt8] = [0]
            try byte.withMutableBytes { (part) throws(BlockError) in
                try share.read(&part, from: 3, of: cluster, size: 512, .mayBlock) { (bytes) throws(BlockError) in
                    for index in 0..<bytes.byteCount {
                        bytes.storeBytes(of: value, toByteOffset: index, as: UInt8.self)
                    }
                }
            }
            return byte[0]
        }
        #expect(try read(1) == 1)
        #expect(try read(2) == 1)
        try share.forget(try #require(ByteRange(offset: 1100, length: 100)))
        #expect(try read(3) == 1, "the place ends before")
        try share.forget(try #require(ByteRange(offset: 1099, length: 1)))
        #expect(try read(4) == 4)
    }

    // MARK: At the same time

    @Test func `a slice that is changed, written and dropped while it is read is read again`() throws {
        let share = share
        let everything = try #require(ByteRange(offset: 0, length: file.size))
        file.script.afterRead = {
            do {
                try share.change(share.key(0, 64)) { $0 = [UInt64](repeating: 5, count: $0.count) }
                try share.writeChanges()
                try share.forget(everything)
            } catch { Issue.record(error) }
        }
        #expect(try words(0) == filled(5))
        #expect(try words(0, .cachedOnly) == filled(5))
    }

    @Test func `readers of a slice that changes see all of a change or none of it, and never an older one`() throws {
        let share = share
        let place = slice(3)
        let isOver = Locked(false)
        let faults = Locked<[String]>([])
        DispatchQueue.concurrentPerform(iterations: 4) { number in
            do throws(BlockError) {
                if number == 0 {
                    for value in 1...3000 {
                        try share.change(place) { $0 = [UInt64](repeating: UInt64(value), count: $0.count) }
                        if value % 50 == 0 { try share.writeChanges() }
                    }
                    isOver.withLock { $0 = true }
                }
                var latest: UInt64 = 0
                repeat {
                    let words = try share.words(at: place.offset, count: place.count, .mayBlock)
                    guard words.allSatisfy({ $0 == words[0] }), words[0] >= latest else {
                        faults.withLock { $0.append("\(words) after \(latest)") }
                        return
                    }
                    latest = words[0]
                } while !isOver.withLock({ $0 })
            } catch { faults.withLock { $0.append("\(error)") } }
        }
        #expect(faults.withLock { $0 } == [])
        #expect(try words(3) == filled(3000))
        #expect(try stored(3) == filled(3000))
    }
}
