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
        /// Threads that sleep, those that have been signalled and not come yet included.
        var idleCount = 0
        var threadCount = 0
        /// A thread has been signalled or started, and has not come yet. It sees to it that the next one is woken.
        var isWaking = false
        var isStopping = false
    }

    /// What is to be done, without the lock, for work that waits.
    private enum Wake {
        case nobody, sleeper, newThread
    }

    /// What the threads hold on to; the lane itself can go while they wait.
    private final class Shared: Sendable {
        let state = Locked(State())
        let signal = DispatchSemaphore(value: 0)
        let name: String
        let width: Int

        init(name: String, width: Int) { (self.name, self.width) = (name, width) }
    }

    /// For reports and the names of threads.
    public var name: String { shared.name }
    /// How many pieces of work are done at the same time at most; at least 1.
    public var width: Int { shared.width }
    private let shared: Shared

    /// - Parameters:
    ///   - name: what the lane leads to.
    ///   - width: as many requests as the source likes to have under way: ``BlockDevice/depth``.
    public init(name: String, width: Int) {
        shared = Shared(name: name, width: max(1, width))
    }

    deinit {
        let count = shared.state.withLock { state in
            state.isStopping = true
            return state.threadCount
        }
        for _ in 0..<count { shared.signal.signal() }
    }

    func run(for owner: WorkOwner, dropped: @escaping @Sendable () -> Void, _ work: @escaping @Sendable () -> Void) {
        let wake = shared.state.withLock { state in
            state.waiting.add(WorkQueue.Job(run: work, dropped: dropped), of: owner)
            return Self.wake(&state, width)
        }
        guard !Self.carryOut(wake, shared) else { return }
        // Threads that there are do it. Without any, this one must: the system has none to give.
        while let job = shared.state.withLock({ $0.threadCount == 0 ? $0.waiting.next() : nil }) { job.run() }
    }

    /// Who is to be woken for the work that waits: one thread at a time, which wakes the next one when it comes and there is more.
    /// To wake one for each piece of work costs more than small writes themselves do: most find that others did it.
    private static func wake(_ state: inout State, _ width: Int) -> Wake {
        guard !state.isWaking, state.waiting.count > 0 else { return .nobody }
        if state.idleCount > 0 {
            state.isWaking = true
            return .sleeper
        }
        guard state.threadCount < width else { return .nobody }
        state.threadCount += 1
        state.isWaking = true
        return .newThread
    }

    /// Wakes a thread or starts one.
    /// - Returns: false when the system has no thread to give.
    private static func carryOut(_ wake: Wake, _ shared: Shared) -> Bool {
        switch wake {
        case .nobody: return true
        case .sleeper:
            shared.signal.signal()
            return true
        case .newThread:
            if WorkerThread.start(named: shared.name, { work(shared) }) { return true }
            shared.state.withLock { state in
                state.threadCount -= 1
                state.isWaking = false
            }
            return false
        }
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
        var wasCalled = true
        var hasSlept = false
        while true {
            let (job, next, isStopping): (WorkQueue.Job?, Wake, Bool) = shared.state.withLock { state in
                if wasCalled { state.isWaking = false }
                if hasSlept { state.idleCount -= 1 }
                let job = state.waiting.next()
                if job == nil, !state.isStopping { state.idleCount += 1 }
                return (job, wake(&state, shared.width), state.isStopping)
            }
            guard let job else {
                guard !isStopping else { return }
                shared.signal.wait()
                (wasCalled, hasSlept) = (true, true)
                continue
            }
            (wasCalled, hasSlept) = (false, false)
            _ = carryOut(next, shared)
            job.run()
        }
    }
}
