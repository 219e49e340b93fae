// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Begins the requests to a source, never more at once than it likes, in the order in which they come, and lets threads wait
/// for them.
///
/// A request that somebody has given up counts until the source has answered: so what lies in memory for a source that is
/// silent stays bounded. No lock is held while the source is called or waited for.
final class RequestQueue: Sendable {
    private struct State {
        /// How many the source has.
        var underWay = 0
        var waiting: [Transfer] = []
        /// Changes that the source has.
        var changes: [ObjectIdentifier: ByteRange] = [:]
        /// Those of them that somebody has given up: what they may still do, and when, nobody knows.
        var overdue: Set<ObjectIdentifier> = []

        mutating func noteSent(_ transfer: Transfer) {
            if transfer.operation.isChange { changes[ObjectIdentifier(transfer)] = transfer.operation.range }
        }

        /// The next one that somebody waits for; then it is sent.
        mutating func next() -> Transfer? {
            while !waiting.isEmpty {
                let transfer = waiting.removeFirst()
                if !transfer.isSettled {
                    noteSent(transfer)
                    return transfer
                }
            }
            underWay -= 1
            return nil
        }

        /// Would a change meet one that may still come to pass later?
        func meetsOverdue(_ range: ByteRange) -> Bool {
            overdue.contains { id in changes[id].map { $0.offset < range.end && range.offset < $0.end } ?? false }
        }
    }

    /// How often a thread looks whether its work is still wanted.
    private static let pollInterval = Duration.milliseconds(50)

    let source: any AsyncSource
    let identity: SourceIdentity
    let depth: Int
    private let clock: any SourceClock
    private let timeLimit: Duration
    private let state = Locked(State())
    private let isOtherSource = Atomic(false)

    init(_ source: any AsyncSource, timeLimit: Duration, clock: any SourceClock) {
        self.source = source
        self.timeLimit = timeLimit
        self.clock = clock
        identity = source.identity
        depth = max(1, source.depth)
    }

    /// How many more could be sent at once.
    var freeCount: Int { state.withLock { max(0, depth - $0.underWay - $0.waiting.count) } }

    /// When a request has to be answered that is begun now.
    var deadline: Duration { clock.now + timeLimit }

    /// Throws once the source has said that it is another one, for ever: what it gives would not fit what it gave.
    func checkIdentity() throws(BlockError) {
        if isOtherSource.load(ordering: .relaxed) { throw .changed }
    }

    /// Makes a request; it begins with ``begin(_:onlyIfFree:)``.
    ///
    /// - Parameter holders: how many hold it; each gives it back with ``leave(_:)``.
    func make(
        _ operation: SourceOperation, payload: RequestMemory? = nil, deadline: Duration? = nil, holders: Int = 1,
        whenAnswered: (@Sendable () -> Void)? = nil
    ) -> Transfer {
        Transfer(
            operation, payload: payload, deadline: deadline ?? self.deadline, holders: holders,
            whenAnswered: whenAnswered)
    }

    private enum Turn {
        case now
        case later
        case never(BlockError)
    }

    /// Sends a request, or has it wait for its turn; with `onlyIfFree` it fails instead, with ``BlockError/wouldBlock``.
    func begin(_ transfer: Transfer, onlyIfFree: Bool = false) {
        let turn: Turn = state.withLock { state in
            if transfer.operation.isChange, state.meetsOverdue(transfer.operation.range) {
                return .never(
                    .timedOut("source: \(transfer.operation.called): an earlier change there has not been answered yet")
                )
            }
            if state.underWay < depth {
                state.underWay += 1
                state.noteSent(transfer)
                return .now
            }
            if onlyIfFree { return .never(.wouldBlock) }
            state.waiting.append(transfer)
            return .later
        }
        switch turn {
        case .now: send(transfer)
        case .later: break
        case .never(let error): transfer.settle(.failed(error))
        }
    }

    /// Waits for the outcome, not longer than until the deadline.
    ///
    /// - Throws: ``BlockError``; ``BlockError/wouldBlock`` when nobody wants the answer any more, as `mode` says, or the
    ///   last of others who waited for the same request has said so.
    func wait(for transfer: Transfer, _ mode: ReadMode) throws(BlockError) -> (memory: RequestMemory, extents: [Extent])
    {
        let waiter: (any SourceWaiter)? = transfer.isSettled ? nil : clock.makeWaiter()
        if let waiter { transfer.add(waiter) }
        while true {
            switch transfer.outcome {
            case .done(let memory, let extents): return (memory, extents)
            case .failed(let error): throw error
            case nil: break
            }
            let now = clock.now
            if now >= transfer.deadline {
                let place = "source: \(transfer.operation.called)"
                giveUp(transfer, .timedOut("\(place): no answer within \(timeLimit)"))
            } else if mode.isSpent {
                throw .wouldBlock
            } else {
                waiter?.wait(
                    until: mode.hasBudget ? min(transfer.deadline, now + Self.pollInterval) : transfer.deadline)
            }
        }
    }

    /// One does not want a request any more, or has its outcome. The last one who leaves it has it given up.
    func leave(_ transfer: Transfer) {
        if transfer.leave(), !transfer.isSettled { giveUp(transfer, .wouldBlock) }
    }

    private func giveUp(_ transfer: Transfer, _ error: BlockError) {
        guard transfer.settle(.failed(error)) else { return }
        state.withLock { state in
            state.waiting.removeAll { $0 === transfer }
            if state.changes[ObjectIdentifier(transfer)] != nil { state.overdue.insert(ObjectIdentifier(transfer)) }
        }
        if let request = transfer.takeRequest() { source.abandon(request) }
    }

    /// - Parameter done: so many bytes have been carried out already.
    private func send(_ transfer: Transfer, from done: Int = 0) {
        guard !isOtherSource.load(ordering: .relaxed) else { return finish(transfer, .failed(.changed)) }
        let memory = transfer.takeMemory()
        let request = SourceRequest(
            transfer.operation.dropping(done), memory: memory, place: done..<memory.byteCount
        ) { [self] result in answered(transfer, memory, done: done, result) }
        transfer.noteSent(as: request)
        source.begin(request)
    }

    private func answered(
        _ transfer: Transfer, _ memory: RequestMemory, done: Int, _ result: Result<SourceAnswer, BlockError>
    ) {
        switch result {
        case .failure(let error):
            if error.code == .changed { isOtherSource.store(true, ordering: .relaxed) }
            finish(transfer, .failed(error))
        case .success(let answer):
            if let other = answer.identity, other != identity { isOtherSource.store(true, ordering: .relaxed) }
            guard !isOtherSource.load(ordering: .relaxed) else { return finish(transfer, .failed(.changed)) }
            let left = memory.byteCount - done
            let count = answer.byteCount ?? left
            guard count <= left, count > 0 || left == 0 else {
                return finish(transfer, .failed(Self.badCount(count, of: transfer.operation.dropping(done))))
            }
            // Of one that was given up, the rest is not asked for.
            if count < left, !transfer.isSettled { return send(transfer, from: done + count) }
            finish(transfer, .done(memory, answer.extents))
        }
    }

    private static func badCount(_ count: Int, of operation: SourceOperation) -> BlockError {
        .inputOutput("source: \(operation.called): \(count) bytes were answered")
    }

    /// The source does not have it any more.
    private func finish(_ transfer: Transfer, _ outcome: Transfer.Outcome) {
        _ = transfer.takeRequest()
        transfer.whenAnswered?()
        transfer.settle(outcome)
        let next = state.withLock { state in
            state.changes[ObjectIdentifier(transfer)] = nil
            state.overdue.remove(ObjectIdentifier(transfer))
            return state.next()
        }
        if let next { send(next) }
    }
}
