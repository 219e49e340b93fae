// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Logging

/// How many log lines clients may cause: some at once, then one each second. Any thread may ask.
final class LogAllowance: Sendable {
    /// Lines at once; more than ten ordinary clients cause in a row.
    static let burst = 100

    private struct State {
        var lines = LogAllowance.burst
        var refilled: ContinuousClock.Instant
        var leftOut = 0
    }

    private let state: Locked<State>

    /// Full at `now`.
    init(now: ContinuousClock.Instant = .now) { state = Locked(State(refilled: now)) }

    /// Takes one line.
    /// - Returns: nil when it is to be left out, else how many have been since the last one that was not.
    func take(now: ContinuousClock.Instant = .now) -> Int? {
        state.withLock { state in
            let seconds = max(0, Int((now - state.refilled).components.seconds))
            if seconds > 0 {
                state.lines = min(Self.burst, state.lines + min(seconds, Self.burst))
                state.refilled = now
            }
            guard state.lines > 0 else {
                state.leftOut += 1
                return nil
            }
            state.lines -= 1
            defer { state.leftOut = 0 }
            return state.leftOut
        }
    }

    /// How many have been left out since the last one that was not; asked once.
    func takeLeftOut() -> Int {
        state.withLock { state in
            defer { state.leftOut = 0 }
            return state.leftOut
        }
    }
}

/// What the log says of clients, of all of them together: whoever connects again and again does not fill a disk, and does not
/// push out what others have to be told. Strangers, who have not chosen an export, have an allowance of their own, and so
/// have failures of the disk.
struct ClientLog: Sendable {
    private let failures = LogAllowance()
    private let clients = LogAllowance()
    private let strangers = LogAllowance()
    private let log: Logger

    /// - Parameter log: of the server.
    init(_ log: Logger) { self.log = log }

    /// For a connection.
    /// - Parameter isStranger: it has not chosen an export so far.
    func logger(client id: UInt64, isStranger: Bool) -> Logger {
        var logger = limited(isStranger ? strangers : clients)
        logger[metadataKey: "client"] = "\(id)"
        return logger
    }

    /// For what the owner of the server wants to know: not limited.
    var owner: Logger { log }

    /// For what somebody causes who has no connection.
    var stranger: Logger { limited(strangers) }

    private func limited(_ allowance: LogAllowance) -> Logger {
        var logger = log
        logger.handler = Handler(base: log.handler, failures: failures, others: allowance)
        return logger
    }

    /// Says what has been left out; at the end.
    func finish() {
        for allowance in [strangers, clients] { Handler.tell(allowance.takeLeftOut(), log, .info) }
        Handler.tell(failures.takeLeftOut(), log, .error)
    }

    private struct Handler: LogHandler {
        var base: any LogHandler
        let failures: LogAllowance
        let others: LogAllowance

        var logLevel: Logger.Level {
            get { base.logLevel }
            set { base.logLevel = newValue }
        }

        var metadata: Logger.Metadata {
            get { base.metadata }
            set { base.metadata = newValue }
        }

        subscript(metadataKey key: String) -> Logger.MetadataValue? {
            get { base[metadataKey: key] }
            set { base[metadataKey: key] = newValue }
        }

        func log(event: LogEvent) {
            guard let leftOut = (event.level >= .error ? failures : others).take() else { return }
            var log = Logger(label: event.source, factory: { _ in base })
            log[metadataKey: "client"] = nil
            Self.tell(leftOut, log, event.level)
            base.log(event: event)
        }

        static func tell(_ count: Int, _ log: Logger, _ level: Logger.Level) {
            guard count > 0 else { return }
            log.log(level: level, "\(count) lines about clients were left out: there were too many at once")
        }
    }
}
