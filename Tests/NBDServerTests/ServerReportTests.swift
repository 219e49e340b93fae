// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import NBDServer

/// What a server says of itself when somebody wonders why a client waits.
@Suite struct ServerReportTests {
    /// Asks until a line says what is expected: connections come and go on other threads.
    private func expect(_ server: Server, _ line: Regex<Substring>) async throws {
        for _ in 0..<1500 where !server.stateReport.contains(where: { $0.contains(line) }) {
            try await Task.sleep(for: .milliseconds(20))
        }
        let report = server.stateReport
        #expect(report.contains { $0.contains(line) }, "\(report)")
    }

    @Test func `it tells places, loops, memory and workers, and counts idle clients`() async throws {
        let server = try Server.serving(MemoryDevice([UInt8](repeating: 7, count: 4096))) { $0.connections = 3 }
        let client = try NBDTestClient(server)
        #expect(try client.isAlive())
        try await expect(server, /^1 of 3 places are taken, 1 by clients that have chosen an export$/)
        try await expect(server, /^1 clients that have nothing to take and ask for nothing$/)
        try await expect(
            server, /^loop 1: asleep for \d+ ms, turn [1-9]\d*; 0 pieces of work wait, no socket is ready$/)
        try await expect(server, /^memory for replies: 0 bytes of 17825792 are used, 69632 mapped; refused 0 times$/)
        try await expect(server, /^lane 'files': 0 threads of 8, 0 wait; 0 pieces of work wait$/)
    }

    @Test func `a client that negotiates is told of, and what it waits for`() async throws {
        let server = try Server.serving(MemoryDevice([UInt8](repeating: 7, count: 4096)))
        let client = try WireClient(server)
        client.send([0, 0])
        try await expect(
            server,
            /^loop 1, client 1: negotiation, waits for its client, is told when readable; 2 bytes received, 0 to send/)
    }

    @Test func `a request that a worker has is told of, and the memory that it uses`() async throws {
        let device = MemoryDevice([UInt8](repeating: 7, count: 4096))
        let gate = DispatchSemaphore(value: 0)
        device.faults.nothingIsCached = true
        device.faults.gate = { gate.wait() }
        let server = try Server.serving(device)
        let client = try WireClient(server)
        try client.negotiate()
        client.send(client.request(0, cookie: 1, length: 4096))
        try await expect(
            server,
            /client 1: transmission, waits for its client.* 1 requests with workers, 0 without memory, 69632 bytes/)
        gate.signal()
        _ = try client.reply()
    }

    @Test func `a client that takes no replies is told of, and what is in its socket`() async throws {
        let server = try Server.serving(MemoryDevice([UInt8](repeating: 7, count: 1 << 20)))
        let client = try WireClient(server)
        try client.negotiate()
        for cookie: UInt64 in 0..<16 { client.send(client.request(0, cookie: cookie, length: 1 << 20)) }
        try await expect(
            server,
            /client 1: transmission, waits for the client to take replies.* writable; .* and [1-9]\d+ that the client has not/
        )
    }

    /// A disk that keeps the loop itself until it is told to go on.
    private final class HangingDevice: ReadOnlyDevice {
        let depth = 8
        let size: UInt64 = 4096
        let alignment = 1
        let isReached = DispatchSemaphore(value: 0)
        let goOn = DispatchSemaphore(value: 0)

        func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
            isReached.signal()
            goOn.wait()
        }

        func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
            Extent(offset: offset, length: limit, kind: .data)
        }

        func prefetch(_ range: ByteRange, _ budget: Budget) {}
    }

    @Test func `it does not wait for a loop that hangs, and shows that it does`() async throws {
        let device = HangingDevice()
        let server = try Server.serving(device)
        let client = try WireClient(server)
        try client.negotiate()
        client.send(client.request(0, cookie: 1, length: 512))
        device.isReached.wait()
        let behind = try WireClient(server)
        let other = try WireClient(server)
        _ = try behind.receive(18)
        let report = server.stateReport
        #expect(
            report.contains { $0.contains(/^loop 1: awake for \d+ ms, turn \d+; [1-9]\d* pieces of work wait/) },
            "\(report)")
        device.goOn.signal()
        #expect(try client.reply() == (0, 1))
        _ = try other.receive(18)
    }

    @Test func `what it tells of many clients is bounded, those first that are not idle`() {
        func report(_ id: UInt64, received: Int) -> ConnectionReport {
            ConnectionReport(
                id: id, isClosed: false, stage: .transmission, waiting: [], isReading: true, isWriting: false,
                isInPieces: false, isInPayload: false, receivedCount: received, outgoingCount: 0, workersBusy: 0,
                starvedCount: 0, memory: 0, receivableCount: 0, unsentCount: 0)
        }
        let connections = (0..<2000 as Range<UInt64>).map { (loop: 0, report: report($0, received: $0 < 1000 ? 0 : 1)) }
        let lines = ServerReport(
            limit: 4000, chosen: 2000, isStopping: false, loops: [], listeners: [], connections: connections
        ).lines
        #expect(lines.count == 1 + ServerReport.longest + 2)
        #expect(lines[1].hasPrefix("loop 0, client 1000: transmission, "))
        #expect(
            lines.suffix(2) == ["900 more such clients", "1000 clients that have nothing to take and ask for nothing"])
        #expect(lines.allSatisfy { $0.utf8.count < 400 })
    }
}
