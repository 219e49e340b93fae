// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Foundation
import Synchronization
import Testing
import TestSupport

/// Blocks of a source far away in memory: how often the source is asked, and for what.
@Suite struct CachingDeviceTests {
    private static let block = 64 << 10
    private static let latency = Duration.milliseconds(20)

    private let clock = VirtualClock()

    private func pages(_ size: UInt64 = 1 << 40, depth: Int = 64) -> SimulatedSource {
        SimulatedSource(NumberedPages(size: size), clock: clock, depth: depth)
    }

    private func cache(_ source: any AsyncSource, memory: Int = 16 << 20) throws -> CachingDevice {
        CachingDevice(try RemoteDevice(source, timeLimit: .seconds(1), clock: clock), memory: memory)
    }

    /// How often somebody has waited for the latency of the source, one after the other.
    private var roundTrips: Int { Int((clock.now / Self.latency).rounded()) }

    // MARK: One request for each block

    @Test func `readers of one block at the same time cause one request`() throws {
        let source = pages()
        let device = try cache(source)
        onThreads(16, clock) { number in
            let offset = UInt64(number) * 4096
            let found = try device.page(at: offset)
            #expect(found == NumberedPages.page(at: offset))
        }
        #expect(source.counts.operations.count == 1)
        #expect(roundTrips == 1)
    }

    @Test func `64 readers at random have 64 requests under way, 2500 a second or more`() throws {
        let source = pages()
        let device = try cache(source)
        onThreads(64, clock) { number in
            for index in 0..<20 {
                // Each another block, and none of them near another.
                let offset = UInt64((index * 64 + number) * 1_000_003 % 1281) << 29
                let found = try device.page(at: offset)
                #expect(found == NumberedPages.page(at: offset))
            }
        }
        #expect(source.counts.mostUnderWay == 64)
        #expect(source.counts.operations.count == 64 * 20)
        #expect(64 * 20 / (clock.now / .seconds(1)) >= 2500)
    }

    @Test func `a failure reaches exactly those who have asked for the block, and is not kept`() throws {
        let source = pages()
        source.behaviour.fault = { operation in
            operation.range.offset == 3 << 30 ? .failure(.inputOutput("sim: a bad block")) : nil
        }
        let device = try cache(source)
        let failed = Mutex<Set<Int>>([])
        onThreads(16, clock) { number in
            do throws(BlockError) { _ = try device.page(at: UInt64(number % 8) << 30) } catch {
                #expect(error == BlockError.inputOutput("sim: a bad block"))
                _ = failed.withLock { $0.insert(number) }
            }
        }
        #expect(failed.withLock { $0 } == [3, 11])
        #expect(source.counts.operations.count == 8)
        source.behaviour.fault = nil
        for number in 0..<8 { #expect(throws: Never.self) { _ = try device.page(at: UInt64(number) << 30) } }
        #expect(source.counts.operations.count == 9)
    }

    @Test func `what is in memory is read without waiting, and what is not is not asked for then`() throws {
        let source = pages()
        let device = try cache(source)
        #expect(throws: BlockError.wouldBlock) { try device.read(count: 4096, at: 0, .cachedOnly) }
        #expect(source.counts.operations.isEmpty)
        _ = try device.page(at: 8192)
        let bytes = try device.read(count: 4096, at: 4096, .cachedOnly)
        #expect(bytes.withBytes { $0.littleEndianWord(at: 0) } == 2)
        #expect(throws: BlockError.wouldBlock) { try device.read(count: 2 * Self.block, at: 0, .cachedOnly) }
        #expect(source.counts.operations.count == 1)
    }

    @Test(arguments: [1, 3, 64])
    func `a read at any place of any length is what the source holds`(depth: Int) throws {
        let bytes = sourceNoise(3 << 20 - 777)
        let source = SimulatedSource(MemoryDevice(bytes), clock: clock, depth: depth)
        source.behaviour.jitter = .milliseconds(20)
        source.behaviour.longestAnswer = 50_000
        let device = try cache(source, memory: 1 << 20)
        var random = SeededGenerator(seed: 3)
        for _ in 0..<40 {
            let start = random.number(below: bytes.count)
            let count = min(bytes.count - start, random.number(below: 600_000))
            #expect(try device.read(count: count, at: UInt64(start)) == Array(bytes[start..<start + count]))
        }
        #expect(source.counts.mostUnderWay <= depth)
    }

    // MARK: Reading ahead

    @Test func `a copy reads ahead: it waits for few round trips, and asks for each block once`() throws {
        let source = pages(256 * UInt64(Self.block))
        let device = try cache(source)
        for index in 0..<4096 {
            let offset = UInt64(index) * 4096
            #expect(try device.page(at: offset) == NumberedPages.page(at: offset))
        }
        #expect(source.counts.operations.count == 256)
        #expect(roundTrips <= 20)
        #expect(source.counts.mostUnderWay <= 64)
    }

    @Test(arguments: [1, 2, 8])
    func `what is read ahead is never more than the source likes`(depth: Int) throws {
        let source = pages(256 * UInt64(Self.block), depth: depth)
        let device = try cache(source)
        for index in 0..<256 { _ = try device.page(at: UInt64(index * Self.block)) }
        #expect(source.counts.mostUnderWay <= depth)
        #expect(source.counts.operations.count == 256)
        #expect(roundTrips <= 256 / max(1, depth - depth / 4) + 10)
    }

    @Test func `several copies side by side read ahead, each of them`() throws {
        let source = pages()
        let device = try cache(source)
        onThreads(4, clock) { number in
            for index in 0..<128 {
                let offset = UInt64(number) << 32 + UInt64(index * Self.block)
                let found = try device.page(at: offset)
                #expect(found == NumberedPages.page(at: offset))
            }
        }
        #expect(roundTrips <= 40)
        #expect(source.counts.mostUnderWay <= 64)
    }

    @Test func `reads at random read nothing ahead`() throws {
        let source = pages()
        let device = try cache(source)
        var random = SeededGenerator(seed: 9)
        for _ in 0..<100 { _ = try device.page(at: UInt64(random.number(below: 1 << 28)) * 4096) }
        #expect(source.counts.operations.count == 100)
    }

    @Test func `what is read ahead and fails is nobody's failure, and is asked for when it is wanted`() throws {
        let source = pages()
        let device = try cache(source)
        let bad = UInt64(6 * Self.block)
        source.behaviour.fault = { $0.range.offset == bad ? .failure(.inputOutput("sim: a bad block")) : nil }
        for index in 0..<6 { _ = try device.page(at: UInt64(index * Self.block)) }
        clock.pass(.seconds(1))
        #expect(source.counts.operations.contains { $0.range.offset == bad })
        source.behaviour.fault = nil
        #expect(try device.page(at: bad) == NumberedPages.page(at: bad))
    }

    @Test func `a prefetch brings blocks that are then read without waiting`() throws {
        let source = pages()
        let device = try cache(source)
        device.prefetch(0, 10 << 20, Budget(looks: 8))
        clock.pass(Self.latency)
        #expect(source.counts.operations.count == 8)
        #expect(throws: Never.self) { _ = try device.read(count: 8 * Self.block, at: 0, .cachedOnly) }
    }

    // MARK: Memory

    @Test func `memory is bounded`() throws {
        let source = pages()
        let device = try cache(source, memory: 16 * Self.block)
        for index in 0..<100 { _ = try device.page(at: UInt64(index) << 30) }
        let kept = (0..<100).filter { (try? device.read(count: 4096, at: UInt64($0) << 30, .cachedOnly)) != nil }
        #expect(kept.count == 16)
        #expect(kept.last == 99)
    }

    @Test func `a copy does not drive out the tables of an image`() throws {
        let source = pages()
        let device = try cache(source, memory: 32 * Self.block)
        let table = UInt64(1) << 35
        for index in 0..<256 {
            if index % 8 == 0 { _ = try device.page(at: table + UInt64(index / 8 * 5 % 16) * 4096) }
            _ = try device.page(at: UInt64(index * Self.block))
        }
        #expect(source.counts.operations.count { $0.range.offset == table } == 1)
    }

    @Test(arguments: [
        (1, 64 << 10), (64 << 10, 64 << 10), (200 << 10, 256 << 10), (1 << 20, 1 << 20), (9 << 20, 1 << 20),
    ])
    func `a block has 64 KiB to 1 MiB`(wanted: Int, used: Int) throws {
        let source = pages()
        let device = CachingDevice(try RemoteDevice(source, clock: clock), blockSize: wanted)
        _ = try device.page(at: 3 << 20)
        #expect(source.counts.operations == [.read(try #require(ByteRange(offset: 3 << 20, length: UInt64(used))))])
    }

    // MARK: Who waits no more

    @Test func `who does not want a block any more does not take it from another`() throws {
        let source = pages()
        source.behaviour.latency = .milliseconds(400)
        let device = try cache(source)
        let clock = clock
        onThreads(2, clock) { number in
            if number == 0 {
                let budget = Budget(looks: .max, isAbandoned: { clock.now >= .milliseconds(100) })
                #expect(throws: BlockError.wouldBlock) { try device.read(count: 4096, at: 0, .mayBlock(budget)) }
            } else {
                let found = try device.page(at: 4096)
                #expect(found == 2)
            }
        }
        #expect(source.counts.operations.count == 1)
        #expect(source.counts.abandoned == 0)
    }

    @Test func `a block that nobody wants any more is given up, and asked for anew by the next`() throws {
        let source = pages()
        source.behaviour.latency = .milliseconds(400)
        let device = try cache(source)
        let clock = clock
        let budget = Budget(looks: .max, isAbandoned: { clock.now >= .milliseconds(100) })
        #expect(throws: BlockError.wouldBlock) { try device.read(count: 4096, at: 0, .mayBlock(budget)) }
        #expect(source.counts.abandoned == 1)
        #expect(try device.page(at: 0) == 1)
        #expect(source.counts.operations.count == 2)
    }

    @Test func `a block that is not answered in time fails for all who wait, and not for those who come later`() throws
    {
        let source = pages()
        source.behaviour.fault = { _ in .held }
        let device = try cache(source)
        onThreads(3, clock) { number in
            #expect(
                throws: BlockError.timedOut("source: reading 65536 bytes at 0: no answer within 1.0 seconds")
            ) { try device.page(at: UInt64(number) * 4096) }
        }
        #expect(source.counts.operations.count == 1)
        source.behaviour.fault = nil
        #expect(try device.page(at: 0) == 1)
    }

    @Test func `once the source is another one nothing is given from memory`() throws {
        let source = pages()
        let device = try cache(source)
        _ = try device.page(at: 0)
        source.replace()
        // Nobody knows yet.
        _ = try device.page(at: 0)
        #expect(throws: BlockError.changed) { try device.page(at: 1 << 30) }
        #expect(throws: BlockError.changed) { try device.page(at: 0) }
        #expect(throws: BlockError.changed) { try device.read(count: 4096, at: 0, .cachedOnly) }
    }

    // MARK: Changes

    @Test(arguments: 0..<6 as Range<UInt64>)
    func `what is written, made zero or given up is that and nothing else`(seed: UInt64) throws {
        let source = SimulatedSource(MemoryDevice(sourceNoise(200_000), isWritable: true), clock: clock, depth: 5)
        source.behaviour.jitter = .milliseconds(10)
        source.behaviour.longestAnswer = 60_000
        var exercise = try LayerExercise(try cache(source, memory: 3 * Self.block), seed: seed)
        try exercise.run(60)
    }

    @Test func `a block that was asked for before a write ended is not kept`() throws {
        let source = KeepingSource()
        let device = CachingDevice(try RemoteDevice(source))
        let old = Mutex<[UInt8]>([])
        let end = DispatchGroup()
        let read: @Sendable () -> Void = {
            let bytes = (try? device.read(count: 4, at: 0)) ?? []
            old.withLock { $0 = bytes }
            end.leave()
        }
        end.enter()
        Thread.detachNewThread(read)
        let block = source.wait(for: 1)[0]
        DispatchQueue(label: "write").async { source.wait(for: 2)[1].complete() }
        try device.write([2, 2, 2, 2], at: 0)
        block.complete(filling: 1)
        end.wait()
        #expect(old.withLock { $0 } == [1, 1, 1, 1])
        DispatchQueue(label: "read").async { source.wait(for: 3)[2].complete(filling: 2) }
        #expect(try device.read(count: 4, at: 0) == [2, 2, 2, 2])
    }

    @Test func `a write that comes to pass late is read afterwards`() throws {
        let memory = MemoryDevice([UInt8](repeating: 1, count: 1000), isWritable: true)
        let source = SimulatedSource(memory, clock: clock)
        let device = try cache(source)
        source.behaviour.fault = { operation in if case .write = operation { .held } else { nil } }
        #expect(
            performing: { try device.write([2], at: 5) }, throws: { ($0 as? BlockError)?.code == .timedOut })
        #expect(try device.read(count: 1, at: 5) == [1])
        source.answerHeld()
        #expect(try device.read(count: 1, at: 5) == [2])
    }

    @Test func `the last block becomes longer with the source`() throws {
        let memory = MemoryDevice(sourceNoise(1000), isWritable: true)
        let device = try cache(SimulatedSource(memory, clock: clock))
        _ = try device.read(count: 1000, at: 0)
        try device.grow(to: 70_000)
        try device.write([9], at: 69_999)
        #expect(try device.read(count: 69_000, at: 1000) == [UInt8](repeating: 0, count: 68_999) + [9])
    }
}
