// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import Testing

@testable import NBDServer

@Suite struct ClientLogTests {
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
