// SPDX-License-Identifier: Apache-2.0

import Dispatch

/// Keeps ranges apart that are read, changed and written again: no two that overlap are held at the same time.
///
/// It is held over input and output, as no other lock is. Those who wait get their range in the order in which they came, as
/// far as ranges overlap.
public final class RangeLock: Sendable {
    /// Somebody who waits for a range.
    private struct Waiter {
        let range: Range<UInt64>
        let signal: DispatchSemaphore
    }

    private struct State {
        var held: [Range<UInt64>] = []
        var waiting: [Waiter] = []

        /// Is the range free, and nobody waits for a part of it?
        func admits(_ range: Range<UInt64>, before count: Int) -> Bool {
            !held.contains { $0.overlaps(range) } && !waiting[..<count].contains { $0.range.overlaps(range) }
        }

        /// Gives their ranges to those who can have them now.
        mutating func admitWaiters() {
            var index = 0
            while index < waiting.count {
                if admits(waiting[index].range, before: index) {
                    let waiter = waiting.remove(at: index)
                    held.append(waiter.range)
                    waiter.signal.signal()
                } else {
                    index += 1
                }
            }
        }
    }

    private let state = Locked(State())

    /// Nobody holds anything.
    public init() {}

    /// How many wait.
    var waiterCount: Int { state.withLock { $0.waiting.count } }

    /// Waits until nobody holds a part of `range`, and takes it. The caller gives it back with ``release(_:)``.
    public func acquire(_ range: Range<UInt64>) {
        let signal: DispatchSemaphore? = state.withLock { state in
            if state.admits(range, before: state.waiting.count) {
                state.held.append(range)
                return nil
            }
            let waiter = Waiter(range: range, signal: DispatchSemaphore(value: 0))
            state.waiting.append(waiter)
            return waiter.signal
        }
        guard let signal else { return }
        signal.wait()
        // Whoever gave it to this thread did that under the lock.
        state.withLock { _ in }
    }

    /// Gives back a range that this thread holds.
    public func release(_ range: Range<UInt64>) {
        state.withLock { state in
            guard let index = state.held.firstIndex(of: range) else { return }
            state.held.remove(at: index)
            state.admitWaiters()
        }
    }
}
