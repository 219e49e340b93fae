// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Logging
import Synchronization
import TestSupport
import Testing

@testable import NBDServer

/// What has been logged.
private final class Lines: Sendable {
    let all = Mutex<[String]>([])
}

private struct Handler: LogHandler {
    let lines: Lines
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let client = metadata["client"].map { "\($0): " } ?? ""
        lines.all.withLock { $0.append("\(event.level) \(client)\(event.message)") }
    }
}

@Suite struct ClientLogTests {
    private func server(_ lines: Lines, _ level: Logger.Level) throws -> Server {
        try Server(
            exports: ExportTable([Export(name: "", description: "", device: MemoryDevice(noise(8 << 20)))]),
            processorCount: 2, log: Logger(label: "test") { _ in Handler(lines: lines, logLevel: level) })
    }

    /// What is logged of a client by the time that it is gone.
    private func log(
        of body: (WireClient) throws -> Void, _ level: Logger.Level = .info
    ) async throws -> [String] {
        let lines = Lines()
        let server = try server(lines, level)
        let client = try WireClient(server)
        try body(client)
        client.close()
        while server.connectionCount > 0 { try await Task.sleep(for: .milliseconds(2)) }
        return lines.all.withLock { $0 }
    }

    @Test(.timeLimit(.minutes(1)), arguments: [1, 4, 30, 400])
    func `a client that has said good-bye has not hung up, whatever it was to get`(reads: Int) async throws {
        func requests(_ client: WireClient) -> [UInt8] {
            (0..<reads).flatMap { client.request(0, cookie: UInt64($0), offset: UInt64($0), length: 4 << 20) }
        }
        let polite = try await log(of: { client in
            try client.negotiate()
            client.send(requests(client) + client.request(2, cookie: 1))
            _ = try client.receive(16)
        })
        #expect(polite == [])
        let rude = try await log(of: { client in
            try client.negotiate()
            client.send(requests(client))
            _ = try client.receive(16)
        })
        #expect(rude.allSatisfy { $0 == "info 1: hung up before it had all replies; connection closed" })
        let abort = try await log(of: { client in
            client.send([0, 0, 0, 3] + (0..<60).flatMap { _ in WireOption.encoded(3) } + WireOption.encoded(2))
        })
        #expect(abort == [])
    }

    @Test(.timeLimit(.minutes(1))) func `debugging shows each option and its answer, made fit for a terminal`()
        async throws
    {
        let lines = try await log(
            of: { client in
                try client.greet()
                _ = try client.ask(8)
                _ = try client.ask(10, WireOption.contexts("", ["base:allocation", "x:\u{1B}[2J"]))
                _ = try client.ask(6, WireOption.info("no\u{7}thing\n"))
                _ = try client.ask(99)
                _ = try client.ask(7, WireOption.info(""))
            }, .debug)
        #expect(
            lines == [
                #"debug 1: NBD_OPT_STRUCTURED_REPLY: NBD_REP_ACK"#,
                #"debug 1: NBD_OPT_SET_META_CONTEXT of export "", "base:allocation", "x:\u{1B}[2J": NBD_REP_ACK"#,
                #"debug 1: NBD_OPT_INFO of export "no\u{7}thing\u{A}": NBD_REP_ERR_UNKNOWN, "#
                    + "there is no export of this name; NBD_OPT_LIST shows them",
                "debug 1: option 99: NBD_REP_ERR_UNSUP, this server does not know option 99",
                #"debug 1: NBD_OPT_GO of export "": NBD_REP_ACK"#, #"debug 1: chose export """#,
            ])
    }

    @Test func `an allowance is a burst, then a line each second, and counts what is left out`() {
        let start = ContinuousClock.now
        let allowance = LogAllowance(now: start)
        for _ in 0..<LogAllowance.burst { #expect(allowance.take(now: start) == 0) }
        for _ in 0..<7 { #expect(allowance.take(now: start + .milliseconds(900)) == nil) }
        #expect(allowance.take(now: start + .milliseconds(1100)) == 7)
        #expect(allowance.take(now: start + .milliseconds(1200)) == nil)
        #expect(allowance.take(now: start + .milliseconds(2200)) == 1)
        // Silence does not add up without end.
        for _ in 0..<LogAllowance.burst { #expect(allowance.take(now: start + .seconds(1_000_000)) == 0) }
        #expect(allowance.take(now: start + .seconds(1_000_000)) == nil)
        #expect(allowance.takeLeftOut() == 1)
        #expect(allowance.takeLeftOut() == 0)
    }

    @Test func `strangers together have one allowance, and hide neither clients nor failures of the disk`() {
        let lines = Lines()
        let log = ClientLog(Logger(label: "test") { _ in Handler(lines: lines) })
        for id in 0..<1000 as Range<UInt64> { log.logger(client: id, isStranger: true).info("went away") }
        log.logger(client: 5000, isStranger: false).info("hung up")
        log.logger(client: 5001, isStranger: true).error("cannot be read")
        log.logger(client: 5001, isStranger: true).debug("is not shown")
        log.finish()
        let found = lines.all.withLock { $0 }
        let strangers = found.count { $0.hasSuffix("went away") }
        #expect((LogAllowance.burst...LogAllowance.burst + 5).contains(strangers))
        #expect(found.contains("info 5000: hung up") && found.contains("error 5001: cannot be read"))
        #expect(!found.contains { $0.contains("is not shown") })
        // Every line is said or counted.
        let leftOut = found.compactMap { $0.firstMatch(of: /^info (\d+) lines about clients were left out/)?.1 }
        #expect(leftOut.compactMap { Int($0) }.reduce(0, +) == 1000 - strangers)
    }
}
