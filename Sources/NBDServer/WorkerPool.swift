// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Dispatch

/// Where connections have work done that their loop does not wait for.
protocol Workers: Sendable {
    /// Runs `work` soon, on another thread: that of a client in the order of the calls, and clients in turn.
    func run(for client: UInt64, _ work: @escaping @Sendable () -> Void)
}

/// Threads for reads that wait or take long; whichever is free takes the next piece of work.
///
/// Each worker holds a serial queue, and so a thread, from its first piece of work on: a concurrent queue would not
/// start a thread for work that arrives while all of its threads wait.
final class WorkerPool: Workers {
    private typealias Work = @Sendable () -> Void

    private struct State {
        /// By client.
        var waiting: [UInt64: [Work]] = [:]
        /// Clients that have work waiting, in the order in which they get their next turn.
        var turns: [UInt64] = []
        var waitingCount = 0
        var idleCount = 0
        var workerCount = 0
        var isStopping = false

        mutating func add(_ work: @escaping Work, of client: UInt64) {
            waitingCount += 1
            if waiting[client] == nil { turns.append(client) }
            waiting[client, default: []].append(work)
        }

        mutating func next() -> Work? {
            guard !turns.isEmpty else { return nil }
            let client = turns.removeFirst()
            guard let work = waiting[client]?.removeFirst() else { return nil }
            waitingCount -= 1
            if waiting[client]?.isEmpty == true { waiting[client] = nil } else { turns.append(client) }
            return work
        }
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

    func run(for client: UInt64, _ work: @escaping @Sendable () -> Void) {
        let newWorker: Int? = shared.state.withLock { state in
            state.add(work, of: client)
            guard state.idleCount < state.waitingCount, state.workerCount < maximumCount else { return nil }
            state.workerCount += 1
            return state.workerCount
        }
        if let newWorker { Self.start(newWorker, shared) }
        shared.signal.signal()
    }

    private static func start(_ number: Int, _ shared: Shared) {
        DispatchQueue(label: "nbdecrypt.worker.\(number)").async {
            while true {
                shared.state.withLock { $0.idleCount += 1 }
                shared.signal.wait()
                let work: Work? = shared.state.withLock { state in
                    state.idleCount -= 1
                    return state.next()
                }
                guard let work else { return }
                work()
            }
        }
    }
}
