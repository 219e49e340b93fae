// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import NBDServer

/// What one client can do to others.
@Suite struct FairnessTests {
    /// A disk whose first half is not in memory: reads of it wait until they are let through, and are counted.
    private final class HalfDevice: ReadOnlyDevice {
        let depth = 8
        let size: UInt64 = 64 << 20
        let alignment = 1
        private let gate = DispatchSemaphore(value: 0)
        private let counts = Mutex((begun: 0, looked: 0))

        var begunCount: Int { counts.withLock { $0.begun } }

        func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
            if offset < size / 2 {
                guard mode.mayWait else { throw .wouldBlock }
                counts.withLock { $0.begun += 1 }
                gate.wait()
                gate.signal()
            }
            buffer.clear()
        }

        func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
            Extent(offset: offset, length: min(limit, size - offset), kind: .data)
        }

        func prefetch(_ range: ByteRange, _ budget: Budget) {}

        func waitFor(_ count: Int) async throws {
            for _ in 0..<3000 where begunCount < count { try await Task.sleep(for: .milliseconds(20)) }
            try #require(begunCount == count)
        }

        /// Lets everybody through from now on.
        func open() { gate.signal() }
    }

    /// Eight workers.
    private func server(_ device: HalfDevice, _ change: (inout ServerLimits) -> Void = { _ in }) throws -> Server {
        try Server.serving(device, change)
    }

    private func ask(_ client: WireClient, _ count: Int, length: UInt32) {
        for cookie in 0..<UInt64(count) { client.send(client.request(0, cookie: cookie, length: length)) }
    }

    @Test func `nothing of clients that have gone is done, but for what had begun`() async throws {
        let device = HalfDevice()
        let server = try server(device)
        let patient = try WireClient(server)
        try patient.negotiate()
        ask(patient, 12, length: 4096)
        // All workers are busy.
        try await device.waitFor(8)
        for _ in 0..<20 {
            let client = try WireClient(server)
            try client.negotiate()
            ask(client, 16, length: 1 << 20)
            // It has been heard: its reply comes at once.
            client.send(client.request(0, cookie: 99, offset: 32 << 20, length: 1))
            client.close()
        }
        for _ in 0..<3000 where server.connectionCount > 1 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(server.connectionCount == 1)
        device.open()
        for _ in 0..<12 {
            #expect(try patient.reply().error == 0)
            _ = try patient.receive(4096)
        }
        #expect(device.begunCount == 12)
    }

    @Test func `work that waits for a worker holds no memory`() async throws {
        let device = HalfDevice()
        let server = try server(device) { $0.replyBytes = 3 << 20 }
        let busy = try WireClient(server)
        try busy.negotiate()
        ask(busy, 8, length: 4096)
        try await device.waitFor(8)
        let waiting = try WireClient(server)
        try waiting.negotiate()
        ask(waiting, 15, length: 1 << 20)
        // What comes in the order of the requests says that all of them have been taken.
        waiting.send(waiting.request(0, cookie: 99, offset: 32 << 20, length: 1))
        #expect(try waiting.reply() == (0, 99))
        _ = try waiting.receive(1)
        // There is a buffer for a read that needs no worker.
        let other = try WireClient(server)
        try other.negotiate()
        other.send(other.request(0, cookie: 1, offset: 32 << 20, length: 1 << 20))
        #expect(try other.reply() == (0, 1))
        #expect(try other.receive(1 << 20).count == 1 << 20)
        device.open()
        for _ in 0..<15 {
            #expect(try waiting.reply().error == 0)
            #expect(try waiting.receive(1 << 20).count == 1 << 20)
        }
    }

    @Test func `a read of many MiB lets others have their turn, and is right`() throws {
        let bytes = noise(3 << 20)
        let device = MemoryDevice(bytes)
        // Longer than others are to wait.
        device.faults.gate = { usleep(150_000) }
        let handler = try handler(device, length: UInt64(bytes.count))
        let share = PayloadShare(of: PayloadBufferPool(maximumBytes: 8 << 20))
        let buffer = try #require(share.take(payload: bytes.count))
        var done: UInt64 = 0
        for expected: UInt64 in [1 << 20, 2 << 20] {
            guard case .unfinished(let next) = handler.readAll(into: buffer, from: done, isAbandoned: { false }) else {
                Issue.record("it has taken more than its turn")
                return
            }
            #expect(next == expected)
            #expect(buffer.count == 0)
            done = next
        }
        guard case .finished(nil) = handler.readAll(into: buffer, from: done, isAbandoned: { false }) else {
            Issue.record("it has not ended")
            return
        }
        var reply = [UInt8](repeating: 0, count: buffer.count)
        buffer.withFilled { filled in reply.withMutableBytes { $0.copy(from: filled.bytes) } }
        #expect(Array(reply.dropFirst(16)) == bytes)
    }

    @Test func `a read and a question that nobody waits for end at the next look`() throws {
        let looks = Mutex(0)
        let isAbandoned: @Sendable () -> Bool = {
            looks.withLock { looks in
                looks += 1
                return looks > 10
            }
        }
        let device = HugeDevice(size: 1 << 40, period: 4096)
        let export = Export(name: "", description: "", device: device)
        let session = Session(
            export: export, mode: .structured, contexts: [.init(id: 1, context: .allocation)], maximumLength: 1 << 30)
        let share = PayloadShare(of: PayloadBufferPool(maximumBytes: 8 << 20))
        let buffer = try #require(share.takeSmallest())
        let status = try #require(request(.blockStatus, length: 1 << 30))
        _ = RequestHandler(session: session, request: status)
            .perform(.blockStatus(isOne: false), into: buffer, isAbandoned: isAbandoned)
        #expect(looks.withLock { $0 } == 11)
        // The context, and ten extents.
        #expect(buffer.count == 20 + 4 + 10 * 8)
    }

    private func request(_ command: WireRequest.Command, length: UInt64) -> NBDRequest? {
        NBDRequest(decoding: WireRequest(command, cookie: 1, length: length).encoded(.simple)[...], .simple)
    }

    private func handler(_ device: any BlockDevice, length: UInt64) throws -> RequestHandler {
        let export = Export(name: "", description: "", device: device)
        let session = Session(export: export, mode: .simple, contexts: [], maximumLength: 64 << 20)
        return RequestHandler(session: session, request: try #require(request(.read, length: length)))
    }
}
