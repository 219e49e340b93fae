// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Synchronization
import TestSupport
import Testing

/// What is known of a source's extents without asking it again.
@Suite struct CachingExtentTests {
    private let clock = VirtualClock()

    /// 1 GiB with an extent of each MiB, by turns data and a hole.
    private final class Checkered: ReadOnlyDevice {
        let size: UInt64 = 1 << 30
        let alignment = 1
        let depth = 8

        static func kind(at offset: UInt64) -> Extent.Kind { offset >> 20 & 1 == 0 ? .data : .unallocated }

        func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
            buffer.clear()
        }

        func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
            let length = min(limit, 1 << 20 - offset % (1 << 20), size - offset)
            return Extent(offset: offset, length: length, kind: Self.kind(at: offset))
        }

        func prefetch(_ range: ByteRange, _ budget: Budget) {}
    }

    private func source(_ contents: any BlockDevice = Checkered(), alignment: Int = 1) -> SimulatedSource {
        SimulatedSource(contents, clock: clock, alignment: alignment)
    }

    private func cache(_ source: SimulatedSource) throws -> CachingDevice {
        CachingDevice(try RemoteDevice(source, clock: clock))
    }

    private func expected(_ offset: UInt64, _ limit: UInt64) -> Extent {
        Extent(offset: offset, length: min(limit, 1 << 20 - offset % (1 << 20)), kind: Checkered.kind(at: offset))
    }

    @Test func `the status of a disk in steps of 4 KiB is asked for in steps of 256 MiB`() throws {
        let source = source()
        source.behaviour.mostExtents = .max
        let device = try cache(source)
        for offset in stride(from: 0 as UInt64, to: 1 << 30, by: 4096) {
            let found = try device.extent(at: offset, limit: 4096)
            try #require(found == expected(offset, 4096), "\(offset)")
        }
        #expect(source.counts.operations.count == 4)
        #expect(clock.now == source.behaviour.latency * 4)
    }

    @Test func `a source that answers less than it was asked is asked for the rest`() throws {
        let source = source()
        source.behaviour.mostExtents = 16
        let device = try cache(source)
        for offset in stride(from: 0 as UInt64, to: 64 << 20, by: 1 << 18) {
            #expect(try device.extent(at: offset, limit: .max) == expected(offset, .max))
        }
        #expect(source.counts.operations.count == 4)
    }

    @Test func `what is known is told without waiting, and what is not is not asked for then`() throws {
        let source = source()
        let device = try cache(source)
        #expect(throws: BlockError.wouldBlock) { try device.extent(at: 5, limit: 1, .cachedOnly) }
        #expect(source.counts.operations.isEmpty)
        _ = try device.extent(at: 5, limit: 1)
        #expect(try device.extent(at: 3 << 20, limit: 9, .cachedOnly) == expected(3 << 20, 9))
        #expect(throws: BlockError.wouldBlock) { try device.extent(at: 0, limit: 1, .cachedOnly) }
        #expect(throws: BlockError.wouldBlock) { try device.extent(at: 64 << 20 + 5, limit: 1, .cachedOnly) }
        #expect(source.counts.operations.count == 1)
    }

    @Test func `sixteen threads that want to know the same ask once`() throws {
        let source = source()
        let device = try cache(source)
        onThreads(16, clock) { number in
            let offset = UInt64(number) << 20
            let found = try device.extent(at: number == 0 ? 0 : offset + 7, limit: 100)
            #expect(
                found == Extent(offset: number == 0 ? 0 : offset + 7, length: 100, kind: Checkered.kind(at: offset)))
        }
        // Whoever is first decides where the question begins; those before it ask for themselves.
        #expect(source.counts.operations.count <= 16)
        #expect(clock.now <= source.behaviour.latency * 2)
        let after = source.counts.operations.count
        onThreads(16, clock) { number in _ = try device.extent(at: 20 << 20, limit: UInt64(number) + 1) }
        #expect(source.counts.operations.count <= after + 1)
    }

    @Test func `how much is kept is bounded, and what is forgotten is asked for again`() throws {
        let source = source()
        source.behaviour.mostExtents = 1
        let device = try cache(source)
        for index in 0..<9000 as Range<UInt64> { _ = try device.extent(at: index * 100_000, limit: 1) }
        let known = (0..<9000 as Range<UInt64>).count {
            (try? device.extent(at: $0 * 100_000, limit: 1, .cachedOnly)) != nil
        }
        // Each answer is of the rest of 1 MiB.
        #expect(known > 0 && known <= 9000)
        #expect(try device.extent(at: 0, limit: 1) == expected(0, 1))
    }

    @Test func `a change makes what was known of it unknown, also where the question was asked before`() throws {
        let bytes = MemoryDevice([UInt8](repeating: 1, count: 1 << 20), isWritable: true)
        let source = source(bytes)
        let device = try cache(source)
        _ = try device.extent(at: 0, limit: 1)
        #expect(throws: Never.self) { try device.extent(at: 9, limit: 1, .cachedOnly) }
        var data: [UInt8] = [1, 2]
        try data.withMutableBytes { data throws(BlockError) in try device.write(&data, at: 70_000, []) }
        #expect(throws: BlockError.wouldBlock) { try device.extent(at: 9, limit: 1, .cachedOnly) }
        // A question that is under way while the change is made.
        source.behaviour.fault = { if case .extents = $0 { .held } else { nil } }
        let answers = Mutex(0)
        onThreads(2, clock) { number in
            if number == 0 {
                _ = try device.extent(at: 0, limit: 1)
                answers.withLock { $0 += 1 }
            } else {
                while source.counts.operations.count(where: { if case .extents = $0 { true } else { false } }) < 2 {}
                try device.zero(ByteRange(offset: 0, length: 4096) ?? .empty, [])
                source.answerHeld()
            }
        }
        #expect(answers.withLock { $0 } == 1)
        #expect(throws: BlockError.wouldBlock) { try device.extent(at: 0, limit: 1, .cachedOnly) }
    }

    @Test func `a failure is told to those who asked, and is not kept`() throws {
        let source = source()
        let device = try cache(source)
        source.behaviour.fault = { _ in .failure(.inputOutput("sim: a bad block")) }
        #expect(throws: BlockError.inputOutput("sim: a bad block")) { try device.extent(at: 0, limit: 1) }
        source.behaviour.fault = nil
        #expect(try device.extent(at: 0, limit: 1) == expected(0, 1))
        #expect(source.counts.operations.count == 2)
    }

    @Test func `nothing is known any more of a source that is another one`() throws {
        let source = source()
        let device = try cache(source)
        _ = try device.extent(at: 0, limit: 1)
        source.replace()
        #expect(throws: BlockError.changed) { try device.extent(at: 512 << 20, limit: 1) }
        #expect(throws: BlockError.changed) { try device.extent(at: 0, limit: 1) }
    }

    @Test func `a source in units is asked about whole ones`() throws {
        let source = source(alignment: 4096)
        let device = try cache(source)
        #expect(try device.extent(at: 1 << 20 + 5, limit: 9) == expected(1 << 20 + 5, 9))
        // From the unit with the first byte to that with the last one.
        let asked = try #require(ByteRange(offset: 1 << 20, length: 256 << 20 + 4096))
        #expect(source.counts.operations == [.extents(asked)])
    }

    // MARK: Who may not wait

    @Test func `who may not wait never makes the source begin anything, and reading ahead goes on all the same`() throws
    {
        let source = SimulatedSource(NumberedPages(size: 64 << 20), clock: clock)
        let device = try cache(source)
        var waits = 0
        for offset in stride(from: 0 as UInt64, to: 64 << 20, by: 4096) {
            let before = source.counts.operations.count
            var bytes = try? device.read(count: 4096, at: offset, .cachedOnly)
            #expect(source.counts.operations.count == before)
            if bytes == nil {
                waits += 1
                bytes = try device.read(count: 4096, at: offset)
            }
            #expect(bytes?.withBytes { $0.littleEndianWord(at: 0) } == NumberedPages.page(at: offset))
        }
        // Each of 1024 blocks is asked for once. Of its 16 pages, two may be read by who may wait: one where the block is on its way,
        // one where the source has become free for what comes next.
        #expect(source.counts.operations.count == 1024)
        #expect(waits <= 2 * 1024)
        #expect(clock.now <= source.behaviour.latency * 50)
    }
}
