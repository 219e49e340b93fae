// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Logging
import Synchronization
import TestSupport
import Testing

@testable import NBDServer

/// Clients that keep the server waiting.
@Suite struct StallTests {
    private static let limits = ServerLimits()

    private func sight(unsent: Int = 100, refusals: Int = 0) -> Stall.Sight {
        Stall.Sight(unsentCount: unsent, refusalCount: refusals)
    }

    /// What is seen after so many seconds of a client that stalls, and that it is too long.
    private func looks(
        _ stall: inout Stall, from start: ContinuousClock.Instant, _ sights: [(seconds: Int, sight: Stall.Sight)]
    ) -> [Bool] {
        sights.map { stall.isTooLong($0.sight, at: start + .seconds($0.seconds), Self.limits) }
    }

    @Test func `a client that does nothing has three minutes, or one when others want its memory`() {
        let start = ContinuousClock.now
        var stall = Stall(sight(), at: start)
        #expect(looks(&stall, from: start, [(179, sight()), (180, sight())]) == [false, true])
        #expect(looks(&stall, from: start, [(59, sight(refusals: 1)), (60, sight(refusals: 1))]) == [false, true])
    }

    @Test func `a client that does a little has time again`() {
        let start = ContinuousClock.now
        var stall = Stall(sight(), at: start)
        let less = sight(unsent: 99)
        #expect(looks(&stall, from: start, [(170, less), (340, less)]) == [false, false])
        stall.hasMoved = true
        #expect(looks(&stall, from: start, [(350, less), (529, less), (530, less)]) == [false, false, true])
    }

    /// Nobody has any patience.
    private func server(_ log: Lines) throws -> Server {
        var limits = ServerLimits()
        limits.stall = .zero
        limits.stallLook = .milliseconds(10)
        let device = MemoryDevice([UInt8](repeating: 7, count: 1 << 20), isWritable: true)
        return try Server(
            exports: ExportTable([Export(name: "", description: "", device: device)]), limits: limits,
            processorCount: 2,
            log: Logger(label: "test") { _ in LineHandler(lines: log) })
    }

    private func waitForEnd(_ server: Server, left count: Int) async throws {
        for _ in 0..<3000 where server.connectionCount > count { try await Task.sleep(for: .milliseconds(20)) }
        #expect(server.connectionCount == count)
    }

    @Test func `a client that takes no replies is let go, and one that asks for nothing stays`() async throws {
        let log = Lines()
        let server = try server(log)
        let idle = try WireClient(server)
        try idle.negotiate()
        let greedy = try WireClient(server)
        try greedy.negotiate()
        for cookie: UInt64 in 0..<16 { greedy.send(greedy.request(0, cookie: cookie, length: 1 << 20)) }
        try await waitForEnd(server, left: 1)
        #expect(log.all.withLock { $0.contains("has not taken a byte of its replies for too long; connection closed") })
        idle.send(idle.request(0, cookie: 1, length: 1))
        #expect(try idle.reply() == (0, 1))
    }

    @Test func `a client that does not send the rest of a write is let go`() async throws {
        let log = Lines()
        let server = try server(log)
        let client = try WireClient(server)
        try client.negotiate()
        client.send(client.request(1, cookie: 1, length: 100_000) + [UInt8](repeating: 1, count: 50_000))
        try await waitForEnd(server, left: 0)
        #expect(log.all.withLock { $0.contains("has not sent the rest of a write for too long; connection closed") })
    }
}

/// What has been logged.
private final class Lines: Sendable {
    let all = Mutex<[String]>([])
}

private struct LineHandler: LogHandler {
    let lines: Lines
    var metadata = Logger.Metadata()
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { lines.all.withLock { $0.append("\(event.message)") } }
}
