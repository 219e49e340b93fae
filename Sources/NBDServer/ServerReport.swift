// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Logging

/// What a server and its clients are doing at a moment, for whoever wonders why a client waits.
///
/// It is made on the thread that asks, of what loops and connections have left for others to see: a loop that hangs is seen
/// to hang. It tells counts and states, nothing of who the clients are, of names, or of what is transferred.
struct ServerReport {
    /// So many connections are told of; of others there is a count.
    static let longest = 100

    /// Lines for the log.
    private(set) var lines: [String]

    /// - Parameters:
    ///   - limit: of connections at the same time.
    ///   - chosen: connections that have chosen an export.
    ///   - connections: with the numbers of their loops.
    init(
        limit: Int, chosen: Int, isStopping: Bool, loops: [EventLoop], listeners: [Listener],
        connections: [(loop: Int, report: ConnectionReport)]
    ) {
        lines = [
            "\(connections.count) of \(limit) places are taken, \(chosen) by clients that have chosen an export"
                + (isStopping ? "; the server stops" : "")
        ]
        for (index, listener) in listeners.enumerated() {
            lines.append("listener \(index): \(listener.isPaused ? "accepts nobody for a moment" : "accepts")")
        }
        for (index, loop) in loops.enumerated() { lines.append("loop \(index): \(loop.report)") }
        // Those first of which somebody may wonder.
        let wanting = connections.filter { !$0.report.isIdle }.sorted { $0.report.id < $1.report.id }
        for (loop, report) in wanting.prefix(Self.longest) { lines.append("loop \(loop), \(report.sentence)") }
        if wanting.count > Self.longest { lines.append("\(wanting.count - Self.longest) more such clients") }
        let idleCount = connections.count - wanting.count
        if idleCount > 0 { lines.append("\(idleCount) clients that have nothing to take and ask for nothing") }
    }

    /// Adds the memory for replies.
    mutating func add(_ buffers: PayloadBufferPool) {
        let memory = buffers.report
        lines.append(
            """
            memory for replies: \(memory.used) bytes of \(memory.maximum) are used, \(memory.mapped) mapped; \
            refused \(buffers.refusalCount) times
            """)
    }

    /// Adds threads that do work.
    mutating func add(_ lane: Lane) {
        let report = lane.report
        lines.append(
            """
            lane '\(lane.name)': \(report.threads) threads of \(report.maximum), \(report.idle) wait; \
            \(report.waiting) pieces of work wait
            """)
    }
}

extension Server {
    /// Logs what loops and clients are doing, in a bounded number of lines. Any thread may call it; it waits for nobody, also
    /// not for a loop that hangs.
    public func logState() {
        for line in stateReport { log.owner.notice("state: \(line)") }
    }

    /// Of those that exports have, in a report.
    private static let mostLanes = 16

    /// Log lines that say what loops and clients are doing. Any thread may ask.
    var stateReport: [String] {
        let (connections, listeners, chosen, isStopping) = state.withLock { state in
            (
                state.connections.values.map(\.connection), state.listeners,
                state.connections.values.count { $0.isNegotiated }, state.isStopping
            )
        }
        var report = ServerReport(
            limit: limits.connections, chosen: chosen, isStopping: isStopping, loops: loops, listeners: listeners,
            connections: connections.map { connection in
                (loops.firstIndex { $0 === connection.loop } ?? 0, connection.report)
            })
        report.add(buffers)
        for lane in [files] + exports.exports.compactMap(\.lane).prefix(Self.mostLanes) + [handshakes] {
            report.add(lane)
        }
        return report.lines
    }
}
