// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Synchronization
import Testing
import TestSupport

/// Threads that wait for a source far away, in a time that is counted.
@Suite struct RemoteDeviceTests {
    private static let second = Duration.seconds(1)

    private let clock = VirtualClock()

    private func source(_ count: Int = 1 << 16, isWritable: Bool = true, depth: Int = 64) -> SimulatedSource {
        SimulatedSource(MemoryDevice(sourceNoise(count), isWritable: isWritable), clock: clock, depth: depth)
    }

    private func device(_ source: any AsyncSource) throws -> RemoteDevice {
        try RemoteDevice(source, timeLimit: Self.second, clock: clock)
    }

    @Test func `64 threads have 64 requests under way, at 20 ms of latency 2500 small reads a second or more`() throws {
        let source = SimulatedSource(NumberedPages(size: 1 << 40), clock: clock)
        let device = try device(source)
        onThreads(64, clock) { number in
            var random = SeededGenerator(seed: UInt64(number))
            for _ in 0..<50 {
                let offset = UInt64(random.number(below: 1 << 28)) * 4096
                let found = try device.page(at: offset)
                #expect(found == NumberedPages.page(at: offset))
            }
        }
        #expect(source.counts.mostUnderWay == 64)
        #expect(source.counts.operations.count == 64 * 50)
        #expect(64 * 50 / (clock.now / Self.second) >= 2500)
    }

    @Test(arguments: [1, 3, 8])
    func `a source never has more requests than it likes`(depth: Int) throws {
        let bytes = sourceNoise(1 << 16)
        let source = source(depth: depth)
        source.behaviour.jitter = .milliseconds(20)
        let device = try device(source)
        onThreads(12, clock) { number in
            for index in 0..<8 {
                let offset = (number * 8 + index) * 512
                let found = try device.read(count: 512, at: UInt64(offset))
                #expect(found == Array(bytes[offset..<offset + 512]))
            }
        }
        #expect(source.counts.mostUnderWay == depth)
        #expect(source.counts.underWay == 0)
    }

    @Test func `a long read has several pieces under way, whose answers may overtake each other`() throws {
        let bytes = sourceNoise(5 << 20)
        let source = SimulatedSource(MemoryDevice(bytes), clock: clock)
        source.behaviour.jitter = .milliseconds(30)
        let device = try device(source)
        #expect(try device.read(count: 5 << 20 - 77, at: 13) == Array(bytes[13..<13 + 5 << 20 - 77]))
        #expect(source.counts.mostUnderWay == 5)
        #expect(clock.now <= .milliseconds(50))
    }

    @Test func `nothing is in memory`() throws {
        let source = source()
        let device = try device(source)
        #expect(throws: BlockError.wouldBlock) { try device.read(count: 1, at: 0, .cachedOnly) }
        #expect(throws: BlockError.wouldBlock) { try device.extent(at: 0, limit: 1, .cachedOnly) }
        #expect(source.counts.operations.isEmpty)
    }

    // MARK: Time

    @Test func `a read that is not answered in time fails then, and others do not`() throws {
        let source = source()
        source.behaviour.fault = { $0.range.offset == 512 ? .held : nil }
        let device = try device(source)
        #expect(
            throws: BlockError.timedOut("source: reading 512 bytes at 512: no answer within 1.0 seconds")
        ) { try device.read(count: 512, at: 512) }
        #expect(clock.now == Self.second)
        #expect(try device.read(count: 512, at: 1024) == Array(sourceNoise(1 << 16)[1024..<1536]))
        #expect(source.counts.abandoned == 1)
    }

    @Test func `a late answer changes no memory but its own, which stays until then and goes after it`() throws {
        let source = KeepingSource()
        let device = try device(source)
        var buffer = [UInt8](repeating: 0xEE, count: 4096)
        #expect(throws: BlockError.self) {
            try buffer.withMutableBytes { (bytes) throws(BlockError) in
                try device.read(into: &bytes, at: 0, .mayBlock)
            }
        }
        weak var memory: RequestMemory?
        weak var other: RequestMemory?
        do {
            let late = try #require(source.requests.first)
            memory = late.memory
            #expect(throws: BlockError.self) { try device.read(count: 4096, at: 0) }
            other = source.requests[1].memory
            #expect(other !== memory)
            late.complete(filling: 0x77)
        }
        #expect(buffer == [UInt8](repeating: 0xEE, count: 4096))
        // The source holds it still, as a library may that writes a byte more; what it is worth nobody asks.
        #expect(memory != nil)
        #expect(other?.withBytes { $0.isZero } == true)
        source.forget()
        #expect(memory == nil)
    }

    @Test func `what a silent source has in memory is bounded, and what was not sent never is`() throws {
        let source = KeepingSource(depth: 2)
        let device = try device(source)
        for _ in 0..<5 { #expect(throws: BlockError.self) { try device.read(count: 512, at: 0) } }
        #expect(source.requests.count == 2)
        for request in source.requests { request.complete() }
        #expect(source.requests.count == 2)
        source.forget()
        #expect(throws: BlockError.self) { try device.read(count: 512, at: 0) }
        #expect(source.requests.count == 1)
    }

    @Test func `a read that nobody wants any more ends soon`() throws {
        let source = source()
        source.behaviour.fault = { _ in .held }
        let device = try device(source)
        let clock = clock
        let budget = Budget(looks: .max, isAbandoned: { clock.now >= .milliseconds(120) })
        #expect(throws: BlockError.wouldBlock) { try device.read(count: 1, at: 0, .mayBlock(budget)) }
        #expect(clock.now <= .milliseconds(200))
        #expect(source.counts.abandoned == 1)
    }

    @Test func `by the clock of this machine a wait ends with the answer, and without one at the deadline`() throws {
        let source = KeepingSource()
        let hour = try RemoteDevice(source, timeLimit: .seconds(3600))
        DispatchQueue(label: "answer").async { source.wait(for: 1)[0].complete(filling: 9) }
        #expect(try hour.read(count: 3, at: 0) == [9, 9, 9])
        let moment = try RemoteDevice(source, timeLimit: .milliseconds(1))
        #expect(performing: { try moment.read(count: 3, at: 0) }, throws: { ($0 as? BlockError)?.code == .timedOut })
    }

    // MARK: What goes wrong

    @Test func `while the connection is lost reads fail, and go on with the same source afterwards`() throws {
        let source = source()
        let device = try device(source)
        source.behaviour.isDisconnected = true
        #expect(throws: BlockError.disconnected("sim: the connection is lost")) { try device.read(count: 1, at: 0) }
        source.behaviour.isDisconnected = false
        #expect(try device.read(count: 1, at: 0) == [sourceNoise(1)[0]])
    }

    @Test func `once the source is another one every read fails, and it is not asked any more`() throws {
        let source = source()
        let device = try device(source)
        _ = try device.read(count: 512, at: 0)
        source.replace()
        #expect(throws: BlockError.changed) { try device.read(count: 512, at: 512) }
        let asked = source.counts.operations.count
        #expect(throws: BlockError.changed) { try device.read(count: 512, at: 0) }
        #expect(throws: BlockError.changed) { try device.read(count: 512, at: 0, .cachedOnly) }
        #expect(throws: BlockError.changed) { try device.write([1], at: 0) }
        #expect(throws: BlockError.changed) { try device.extent(at: 0, limit: 1) }
        #expect(source.counts.operations.count == asked)
    }

    @Test func `a read is never half of one version and half of another`() throws {
        let source = source()
        source.behaviour.longestAnswer = 1000
        source.behaviour.fault = { operation in
            if operation.range.offset == 3000 { source.replace() }
            return nil
        }
        #expect(throws: BlockError.changed) { try device(source).read(count: 10_000, at: 0) }
    }

    @Test(arguments: [(0, "0"), (513, "513"), (-1, "-1")])
    func `an answer about more than was asked, or about nothing, is an error`(count: Int, shown: String) throws {
        let source = source()
        source.behaviour.fault = { _ in .count(count) }
        #expect(throws: BlockError.inputOutput("source: reading 512 bytes at 0: \(shown) bytes were answered")) {
            try device(source).read(count: 512, at: 0)
        }
    }

    @Test func `of short answers the rest is asked for`() throws {
        let bytes = sourceNoise(1 << 16)
        let source = source()
        source.behaviour.longestAnswer = 1000
        let device = try device(source)
        #expect(try device.read(count: 10_500, at: 7) == Array(bytes[7..<10_507]))
        #expect(source.counts.operations.count == 11)
        try device.write([UInt8](bytes[0..<2500]), at: 100)
        #expect(try device.read(count: 2500, at: 100) == Array(bytes[0..<2500]))
    }

    @Test func `a second answer is ignored`() throws {
        let source = source()
        source.behaviour.fault = { _ in .twice }
        let device = try device(source)
        for _ in 0..<3 { #expect(try device.read(count: 1, at: 0) == [sourceNoise(1)[0]]) }
        #expect(source.counts.mostUnderWay == 1)
    }

    @Test func `a source of an impossible size or alignment is refused`() {
        let memory = MemoryDevice([])
        for alignment in [0, -1, 3, 8192] {
            #expect(
                throws: FormatError.unreadable("it is read in units of \(alignment) bytes, which is not done")
            ) { try device(SimulatedSource(memory, clock: clock, alignment: alignment)) }
        }
        #expect(
            throws: FormatError.unreadable(
                "it says that it has 9223372036854775808 bytes, which is more than a disk can have")
        ) { try device(SimulatedSource(NumberedPages(size: 1 << 63), clock: clock)) }
    }

    // MARK: Changes

    @Test(arguments: 0..<4 as Range<UInt64>)
    func `what is written, made zero or given up is that and nothing else`(seed: UInt64) throws {
        let source = source(20_000)
        source.behaviour.jitter = .milliseconds(10)
        source.behaviour.longestAnswer = 3000
        var exercise = try LayerExercise(try device(source), seed: seed)
        try exercise.run(100)
    }

    @Test func `a write keeps nothing of the caller's memory, and is durable in each piece`() throws {
        let memory = MemoryDevice([UInt8](repeating: 0, count: 3 << 20), isWritable: true)
        let device = try device(SimulatedSource(memory, clock: clock))
        let bytes = sourceNoise(2 << 20)
        try device.write(bytes, at: 1000, .durable)
        #expect(Array(memory.bytes[1000..<1000 + 2 << 20]) == bytes)
        #expect(memory.calls.count == 3)
        for case .write(_, _, let options) in memory.calls { #expect(options == .durable) }
    }

    @Test func `where a write may still come to pass late, no other is begun`() throws {
        let source = source()
        source.behaviour.fault = { _ in .held }
        let device = try device(source)
        #expect(performing: { try device.write([1, 1, 1, 1], at: 100) }, throws: Self.isTimedOut)
        source.behaviour.fault = nil
        #expect(
            throws: BlockError.timedOut(
                "source: writing 1 bytes at 103: an earlier change there has not been answered yet")
        ) { try device.write([2], at: 103) }
        try device.write([3], at: 104)
        source.answerHeld()
        try device.write([2], at: 103)
        #expect(try device.read(count: 5, at: 100) == [1, 1, 1, 2, 3])
    }

    private static func isTimedOut(_ error: any Error) -> Bool { (error as? BlockError)?.code == .timedOut }

    @Test func `after a flush or a durable write that failed, no flush succeeds`() throws {
        let failure = BlockError.inputOutput("the disk is gone")
        for operation in [SourceOperation.flush, .write(try #require(ByteRange(offset: 0, length: 1)), .durable)] {
            let source = source()
            let device = try device(source)
            try device.flush()
            source.behaviour.fault = { $0 == operation ? .failure(failure) : nil }
            #expect(throws: failure) {
                if operation == .flush { try device.flush() } else { try device.write([1], at: 0, .durable) }
            }
            source.behaviour.fault = nil
            #expect(throws: failure) { try device.flush() }
            try device.write([1], at: 0)
        }
    }

    @Test func `a source that is only read is not written to`() throws {
        let source = source(isWritable: false)
        let device = try device(source)
        #expect(!device.isWritable)
        #expect(throws: BlockError.readOnly) { try device.write([1], at: 0) }
        #expect(throws: BlockError.readOnly) { try device.grow(to: 1 << 20) }
        let other = try RemoteDevice(self.source(), allowsChanges: false, clock: clock)
        #expect(throws: BlockError.readOnly) { try other.zero(.empty, []) }
        #expect(source.counts.operations.isEmpty)
    }

    @Test func `no verb reaches beyond the end, or half a unit`() throws {
        let source = SimulatedSource(
            MemoryDevice([UInt8](repeating: 0, count: 8192), isWritable: true), clock: clock, alignment: 512)
        let device = try device(source)
        let isRefused: (any Error) -> Bool = { ($0 as? BlockError)?.code == .outOfRange }
        #expect(performing: { try device.read(count: 1024, at: 7680) }, throws: isRefused)
        #expect(performing: { try device.read(count: 100, at: 0) }, throws: isRefused)
        #expect(performing: { try device.write([UInt8](repeating: 1, count: 100), at: 0) }, throws: isRefused)
        #expect(performing: { try device.extent(at: 8192, limit: 1) }, throws: isRefused)
        #expect(source.counts.operations.isEmpty)
    }

    @Test func `extents are those of the source`() throws {
        let extents = [Extent(offset: 0, length: 1024, kind: .zero), Extent(offset: 1024, length: 2048, kind: .data)]
        let memory = MemoryDevice([UInt8](repeating: 0, count: 8192), extents: extents)
        let device = try device(SimulatedSource(memory, clock: clock, alignment: 512))
        #expect(try device.extent(at: 100, limit: 8000) == Extent(offset: 100, length: 924, kind: .zero))
        #expect(try device.extent(at: 1025, limit: 10) == Extent(offset: 1025, length: 10, kind: .data))
        #expect(try device.extents().map(\.length).reduce(0, +) == 8192)
    }

    @Test func `it grows as the source does`() throws {
        let device = try device(source(1000))
        try device.grow(to: 2000)
        #expect(device.size == 2000)
        #expect(try device.read(count: 1000, at: 1000) == [UInt8](repeating: 0, count: 1000))
        try device.grow(to: 1500)
        #expect(device.size == 2000)
    }
}
