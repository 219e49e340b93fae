// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Dispatch

/// Whose work it is.
struct WorkOwner: Hashable, Sendable {
    let peer: Peer
    /// The number of the connection.
    let connection: UInt64
}

/// Where connections have work done that their loop does not wait for.
protocol Workers: Sendable {
    /// Runs `work` soon, on another thread: that of a connection in the order of the calls, peers in turn, and the connections
    /// of a peer in turn.
    /// - Parameter dropped: called in place of `work` when ``drop(_:)`` comes first.
    func run(for owner: WorkOwner, dropped: @escaping @Sendable () -> Void, _ work: @escaping @Sendable () -> Void)

    /// Forgets the work of a connection that has not begun.
    func drop(_ owner: WorkOwner)
}

extension Workers {
    /// Runs work that has nothing to give back when it is dropped.
    func run(for owner: WorkOwner, _ work: @escaping @Sendable () -> Void) { run(for: owner, dropped: {}, work) }
}

/// Threads for reads that wait or take long; whichever is free takes the next piece of work.
///
/// Each worker holds a serial queue, and so a thread, from its first piece of work on: a concurrent queue would not
/// start a thread for work that arrives while all of its threads wait.
final class WorkerPool: Workers {
    private struct State {
        var waiting = WorkQueue()
        var idleCount = 0
        var workerCount = 0
        var isStopping = false
    }

    /// What the workers hold on to; the pool itself can go while they wait.
    private final class Shared: Sendable {
        let state = Locked(State())
        let signal = DispatchSemaphore(value: 0)
    }

    private let shared = Shared()
    private let maximumCount: Int

    /// - Parameter count: how many pieces of work are done at the same time at most.
    init(count: Int) { maximumCount = count }

    deinit {
        let count = shared.state.withLock { state in
            state.isStopping = true
            return state.workerCount
        }
        for _ in 0..<count { shared.signal.signal() }
    }

    func run(for owner: WorkOwner, dropped: @escaping @Sendable () -> Void, _ work: @escaping @Sendable () -> Void) {
        let newWorker: Int? = shared.state.withLock { state in
            state.waiting.add(WorkQueue.Job(run: work, dropped: dropped), of: owner)
            guard state.idleCount < state.waiting.count, state.workerCount < maximumCount else { return nil }
            state.workerCount += 1
            return state.workerCount
        }
        if let newWorker { Self.start(newWorker, shared) }
        shared.signal.signal()
    }

    func drop(_ owner: WorkOwner) {
        let dropped = shared.state.withLock { $0.waiting.drop(owner) }
        for job in dropped { job.dropped() }
    }

    /// How many threads there are and may be, how many of them wait, and how much work does. Any thread may ask.
    var report: (threads: Int, maximum: Int, idle: Int, waiting: Int) {
        shared.state.withLock { ($0.workerCount, maximumCount, $0.idleCount, $0.waiting.count) }
    }

    private static func start(_ number: Int, _ shared: Shared) {
        DispatchQueue(label: "nbdecrypt.worker.\(number)").async {
            while true {
                shared.state.withLock { $0.idleCount += 1 }
                shared.signal.wait()
                let (job, isStopping): (WorkQueue.Job?, Bool) = shared.state.withLock { state in
                    state.idleCount -= 1
                    return (state.waiting.next(), state.isStopping)
                }
                // There is none for a signal whose work was dropped.
                guard job != nil || !isStopping else { return }
                job?.run()
            }
        }
    }
}
