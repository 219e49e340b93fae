// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// One request to a source, as those see it who wait for it: any number of threads, or none.
///
/// It has one outcome, which does not change: that of the source, or that somebody has given up. The source may answer later
/// than that; what it does then is in ``memory``, which nobody looks at any more.
final class Transfer: Sendable {
    /// What became of it.
    enum Outcome: Sendable {
        case done(RequestMemory, [Extent])
        case failed(BlockError)
    }

    private enum Status {
        static let pending: UInt8 = 0
        static let done: UInt8 = 1
        static let failed: UInt8 = 2
    }

    private struct State {
        var outcome: Outcome?
        var waiters: [any SourceWaiter] = []
        /// What a write writes; what a read reads, from when it is sent.
        var memory: RequestMemory?
        /// While the source has it.
        var request: SourceRequest?
    }

    let operation: SourceOperation
    /// When those who wait give up.
    let deadline: Duration
    /// Called when the source has answered, before anybody who waits is told; also when nobody waits any more.
    let whenAnswered: (@Sendable () -> Void)?
    private let status = Atomic(Status.pending)
    private let holders: Atomic<Int>
    private let state: Locked<State>

    /// - Parameter holders: how many hold it already.
    init(
        _ operation: SourceOperation, payload: RequestMemory?, deadline: Duration, holders: Int,
        whenAnswered: (@Sendable () -> Void)?
    ) {
        self.operation = operation
        self.deadline = deadline
        self.whenAnswered = whenAnswered
        self.holders = Atomic(holders)
        state = Locked(State(memory: payload))
    }

    /// Has it an outcome?
    var isSettled: Bool { status.load(ordering: .acquiring) != Status.pending }
    /// Has it failed? Then it is of no use to anybody who comes later.
    var hasFailed: Bool { status.load(ordering: .acquiring) == Status.failed }
    /// Has it been carried out?
    var isDone: Bool { status.load(ordering: .acquiring) == Status.done }

    var outcome: Outcome? { state.withLock { $0.outcome } }

    /// One more wants the outcome.
    func join() { holders.add(1, ordering: .sequentiallyConsistent) }

    /// One does not want it any more, or has it.
    /// - Returns: was it the last one?
    func leave() -> Bool { holders.subtract(1, ordering: .sequentiallyConsistent).newValue <= 0 }

    /// Wakes `waiter` when there is an outcome, at once if there is one.
    func add(_ waiter: any SourceWaiter) {
        let isSettled = state.withLock { state in
            if state.outcome == nil { state.waiters.append(waiter) }
            return state.outcome != nil
        }
        if isSettled { waiter.wake() }
    }

    /// The memory that it is about, which a read takes now.
    func takeMemory() -> RequestMemory {
        state.withLock { state in
            if let memory = state.memory { return memory }
            var count = 0
            if case .read(let range) = operation { count = Int(range.length) }
            let memory = RequestMemory(byteCount: count)
            state.memory = memory
            return memory
        }
    }

    /// The source has `request` from now on.
    func noteSent(as request: SourceRequest) { state.withLock { $0.request = request } }

    /// What the source has been asked, for the first who takes it; then the source alone holds it.
    func takeRequest() -> SourceRequest? {
        state.withLock { state in
            let request = state.request
            state.request = nil
            return request
        }
    }

    /// Gives it its outcome, unless it has one, and wakes all who wait.
    /// - Returns: was it this one?
    @discardableResult
    func settle(_ outcome: Outcome) -> Bool {
        let waiters: [any SourceWaiter]? = state.withLock { state in
            guard state.outcome == nil else { return nil }
            state.outcome = outcome
            if case .failed = outcome { state.memory = nil }
            let waiters = state.waiters
            state.waiters = []
            return waiters
        }
        guard let waiters else { return false }
        if case .failed = outcome {
            status.store(Status.failed, ordering: .releasing)
        } else {
            status.store(Status.done, ordering: .releasing)
        }
        for waiter in waiters { waiter.wake() }
        return true
    }
}
