// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Synchronization

/// Threads for reads that wait or take long; whichever is free takes the next piece of work.
///
/// Each worker holds a serial queue, and so a thread, from its first piece of work on: a concurrent queue would not
/// start a thread for work that arrives while all of its threads wait.
final class WorkerPool: Sendable {
    private typealias Work = @Sendable () -> Void

    private struct State {
        var waiting: [Work] = []
        var idleCount = 0
        var workerCount = 0
        var isStopping = false
    }

    /// What the workers hold on to; the pool itself can go while they wait.
    private final class Shared: Sendable {
        let state = Mutex(State())
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

    /// Runs `work` soon, in the order of the calls.
    func run(_ work: @escaping @Sendable () -> Void) {
        let newWorker: Int? = shared.state.withLock { state in
            state.waiting.append(work)
            guard state.idleCount < state.waiting.count, state.workerCount < maximumCount else { return nil }
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
                    return state.waiting.isEmpty ? nil : state.waiting.removeFirst()
                }
                guard let work else { return }
                work()
            }
        }
    }
}
