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
    private let changes: Qcow2TableChanges

    init() {
        file = ScriptedFile([UInt8](repeating: 0, count: 8 << 20))
        share = CacheShare(of: ImageCache(), for: file)
        changes = Qcow2TableChanges(share, file: file, dataFile: file)
    }

    /// The slice of 64 words with this number.
    private func slice(_ number: Int) -> ImageCache.Key { share.key(UInt64(number) * Self.sliceBytes, 64) }

    private func words(_ number: Int, _ mode: ReadMode = .mayBlock) throws -> [UInt64] {
        try share.words(at: UInt64(number) * Self.sliceBytes, count: 64, mode)
    }

    /// Sets all words of a slice.
    private func set(_ number: Int, to value: UInt64, _ step: ChangedSlices.Step = .contents) throws {
        try changes.change(slice(number), step) { words in
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

    /// How many slices differ from the file at most.
    private static let maximumCount = ChangedSlices.maximumCost / Int(sliceBytes)

    // MARK: Order

    @Test
    func `reference counts are on disk before the table that finds them, and that one before the entries in need`()
        throws
    {
        let (l2, refcounts, other, index) = (0, 1, 2, 3)
        try set(l2, to: 2, .references)
        try set(index, to: 3, .index)
        try set(refcounts, to: 1)
        try set(other, to: 4)
        #expect(file.memory.calls.isEmpty)
        try changes.writeAll()
        #expect(
            file.memory.calls == [write(refcounts), write(other), .flush, write(index), .flush, write(l2), .flush])
        for (number, value) in [(refcounts, 1), (l2, 2), (index, 3), (other, 4)] as [(Int, UInt64)] {
            #expect(try stored(number) == filled(value))
        }
        #expect(!share.hasChanges)
        try changes.writeAll()
        #expect(file.memory.calls.count == 8, "nothing has been changed since: one flush is for data")
    }

    @Test func `data is on disk before entries that refer to it, and that takes two flushes`() throws {
        try set(1, to: 1, .references)
        try changes.writeAll()
        #expect(file.memory.calls == [.flush, write(1), .flush])
    }

    @Test func `a table to which nothing on disk refers is written before the one that refers to it`() throws {
        changes.add(newTable: HostOffset(512))
        try changes.change(slice(1), ofTable: HostOffset(512)) { $0[0] = 7 }
        try set(0, to: 1, .references)
        try changes.writeAll()
        #expect(file.memory.calls == [write(1), .flush, write(0), .flush])
        // Now something may refer to it.
        try changes.change(slice(1), ofTable: HostOffset(512)) { $0[1] = 7 }
        try changes.writeAll()
        #expect(file.memory.calls.suffix(3) == [.flush, write(1), .flush])
    }

    @Test func `once entries have been written, the tables that they refer to wait for data, also if the flush fails`()
        throws
    {
        changes.add(newTable: HostOffset(512))
        try set(0, to: 1, .references)
        file.script.unwritablePlace = 0
        #expect(throws: BlockError.self) { try changes.writeAll() }
        file.script = ScriptedFile.Script()
        try changes.change(slice(1), ofTable: HostOffset(512)) { $0[0] = 7 }
        try changes.writeAll()
        #expect(file.memory.calls == [.flush, .flush, write(0), write(1), .flush])
    }

    // MARK: Failures

    @Test func `a write that fails keeps the change, and what waits for it is not written`() throws {
        try set(2, to: 1)
        try set(1, to: 2, .references)
        file.script.unwritablePlace = 2 * Self.sliceBytes
        #expect(throws: BlockError.inputOutput("byte 1024 cannot be written")) { try changes.writeAll() }
        #expect(file.memory.calls.isEmpty)
        #expect(try words(2, .cachedOnly) == filled(1))
        file.script = ScriptedFile.Script()
        try changes.writeAll()
        #expect(file.memory.calls == [write(2), .flush, write(1), .flush])
    }

    @Test func `what is written before a flush that failed is written again`() throws {
        try set(2, to: 1)
        try set(1, to: 2, .references)
        file.script.flushFails = true
        #expect(throws: BlockError.inputOutput("the file cannot be flushed")) { try changes.writeAll() }
        #expect(file.memory.calls == [write(2)], "the slice that waits is not written")
        file.script = ScriptedFile.Script()
        try changes.writeAll()
        #expect(file.memory.calls == [write(2), write(2), .flush, write(1), .flush])
    }

    @Test func `a change for which there is no room is not made when nothing can be written`() throws {
        for number in 0..<Self.maximumCount { try set(number, to: 1) }
        file.script.flushFails = true
        try set(0, to: 2)
        #expect(throws: BlockError.self) { try set(Self.maximumCount, to: 1) }
        #expect(try words(Self.maximumCount) == filled(0))
        #expect(try words(0) == filled(2))
        file.script = ScriptedFile.Script()
        try set(Self.maximumCount, to: 1)
        #expect(try stored(0) == filled(2))
        #expect(try words(Self.maximumCount) == filled(1))
    }

    @Test func `a slice that cannot be read is not changed`() throws {
        file.memory.faults.unreadableByte = 5
        #expect(throws: BlockError.self) { try set(0, to: 1) }
        file.memory.faults.unreadableByte = nil
        try changes.writeAll()
        #expect(file.memory.calls == [.flush])
    }

    // MARK: Memory

    @Test func `changes take bounded memory and none is lost`() throws {
        let count = Self.maximumCount + 100
        for number in 0..<count { try set(number, to: UInt64(number) + 1) }
        #expect(file.memory.calls.count { $0 != .flush } == Self.maximumCount)
        for number in 0..<count { #expect(try words(number) == filled(UInt64(number) + 1)) }
        try changes.writeAll()
        for number in 0..<count { #expect(try stored(number) == filled(UInt64(number) + 1)) }
    }

    @Test func `what is dropped for want of room is never a change`() throws {
        // 6 MiB in slices of 4 KiB: more than all that is kept.
        let file = MemoryDevice([UInt8](repeating: 0, count: 6 << 20), isWritable: true)
        let share = CacheShare(of: ImageCache(), for: file)
        let changes = Qcow2TableChanges(share, file: file, dataFile: file)
        try changes.change(share.key(0, 512), .contents) { $0[7] = 1 }
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
        let changes = zip(shares, files).map { Qcow2TableChanges($0, file: $1, dataFile: $1) }
        try changes[0].change(shares[0].key(0, 64), .contents) { $0[0] = 1 }
        #expect(try shares[1].words(at: 0, count: 64, .mayBlock)[0] == 0)
        #expect(shares[0].hasChanges && !shares[1].hasChanges)
        try changes[1].writeContents()
        #expect(files.allSatisfy { $0.memory.calls.isEmpty })
        try changes[0].writeAll()
        #expect(files[0].memory.calls.count == 2)
    }

    // MARK: Forgetting

    @Test func `a table whose place holds something else is read anew`() throws {
        try set(0, to: 1)
        #expect(try words(1) == filled(0))
        // The second word of slice 0, and no more of slice 1 than its first byte.
        let place = try #require(ByteRange(offset: 8, length: Self.sliceBytes - 7))
        share.forget([place])
        #expect(try words(0) == filled(1), "what is not in the file yet is kept")
        try changes.writeAll()
        share.forget([place])
        try file.memory.write([UInt8](repeating: 9, count: 1024), at: 0)
        let nines = filled(0x0909_0909_0909_0909)
        #expect(try words(0) == nines)
        #expect(try words(1) == nines)
    }

    @Test func `what lies beside a forgotten place is kept`() throws {
        let before = try (words(0), words(2))
        share.forget([try #require(ByteRange(offset: Self.sliceBytes, length: Self.sliceBytes))])
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
        share.forget([try #require(ByteRange(offset: 1100, length: 100))])
        #expect(try read(3) == 1, "the place ends before")
        share.forget([try #require(ByteRange(offset: 1099, length: 1))])
        #expect(try read(4) == 4)
    }

    // MARK: At the same time

    @Test func `a slice that is changed, written and dropped while it is read is read again`() throws {
        let (share, file) = (share, file)
        let everything = try #require(ByteRange(offset: 0, length: file.size))
        file.script.afterRead = {
            let changes = Qcow2TableChanges(share, file: file, dataFile: file)
            do {
                try changes.change(share.key(0, 64), .contents) { $0 = [UInt64](repeating: 5, count: $0.count) }
                try changes.writeAll()
                share.forget([everything])
            } catch { Issue.record(error) }
        }
        #expect(try words(0) == filled(5))
        #expect(try words(0, .cachedOnly) == filled(5))
    }

    @Test func `readers of a slice that changes see all of a change or none of it, and never an older one`() throws {
        let (share, file) = (share, file)
        let place = slice(3)
        let isOver = Locked(false)
        let faults = Locked<[String]>([])
        DispatchQueue.concurrentPerform(iterations: 4) { number in
            do throws(BlockError) {
                if number == 0 {
                    let changes = Qcow2TableChanges(share, file: file, dataFile: file)
                    for value in 1...3000 {
                        try changes.change(place, .contents) {
                            $0 = [UInt64](repeating: UInt64(value), count: $0.count)
                        }
                        if value % 50 == 0 { try changes.writeAll() }
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
