// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Dispatch

/// Threads that wait for one source of bytes: the files of a machine share a lane, and what is far away has one of its own, so
/// that a source that does not answer holds up nobody but those who read from it.
///
/// Whichever thread is free takes the next piece of work. They are started when there is work for them, up to ``width``, and end
/// with the lane.
public final class Lane: Workers {
    /// How many requests are under way at the same time on a file system, unless the machine has more processors.
    static let filesWidth = 8

    private struct State {
        var waiting = WorkQueue()
        var idleCount = 0
        var threadCount = 0
        var isStopping = false
    }

    /// What the threads hold on to; the lane itself can go while they wait.
    private final class Shared: Sendable {
        let state = Locked(State())
        let signal = DispatchSemaphore(value: 0)
        let name: String

        init(name: String) { self.name = name }
    }

    /// For reports and the names of threads.
    public var name: String { shared.name }
    /// How many pieces of work are done at the same time at most; at least 1.
    public let width: Int
    private let shared: Shared

    /// - Parameters:
    ///   - name: what the lane leads to.
    ///   - width: as many requests as the source likes to have under way: ``BlockDevice/depth``.
    public init(name: String, width: Int) {
        shared = Shared(name: name)
        self.width = max(1, width)
    }

    deinit {
        let count = shared.state.withLock { state in
            state.isStopping = true
            return state.threadCount
        }
        for _ in 0..<count { shared.signal.signal() }
    }

    func run(for owner: WorkOwner, dropped: @escaping @Sendable () -> Void, _ work: @escaping @Sendable () -> Void) {
        let needsThread = shared.state.withLock { state in
            state.waiting.add(WorkQueue.Job(run: work, dropped: dropped), of: owner)
            guard state.idleCount < state.waiting.count, state.threadCount < width else { return false }
            state.threadCount += 1
            return true
        }
        if needsThread, !WorkerThread.start(named: name, { [shared] in Self.work(shared) }) {
            // Threads that there are do it. Without any, this one must: the system has none to give.
            let isAlone = shared.state.withLock { state in
                state.threadCount -= 1
                return state.threadCount == 0
            }
            if isAlone { return shared.state.withLock { $0.waiting.next() }?.run() ?? () }
        }
        shared.signal.signal()
    }

    func drop(_ owner: WorkOwner) {
        let dropped = shared.state.withLock { $0.waiting.drop(owner) }
        for job in dropped { job.dropped() }
    }

    /// How many threads there are and may be, how many of them wait, and how much work does. Any thread may ask.
    var report: (threads: Int, maximum: Int, idle: Int, waiting: Int) {
        shared.state.withLock { ($0.threadCount, width, $0.idleCount, $0.waiting.count) }
    }

    private static func work(_ shared: Shared) {
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
