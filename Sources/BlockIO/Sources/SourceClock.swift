// SPDX-License-Identifier: Apache-2.0

import Dispatch

/// By what threads wait for a source: the time of this machine, or that of a test.
public protocol SourceClock: Sendable {
    /// Since some start; never goes back.
    var now: Duration { get }

    /// Makes what one thread waits by.
    func makeWaiter() -> any SourceWaiter
}

/// A thread that waits for an answer.
public protocol SourceWaiter: AnyObject, Sendable {
    /// Waits until ``wake()`` has been called, which may have happened before, or until the time has come. One thread calls this.
    func wait(until time: Duration)

    /// Ends the wait; any thread, once.
    func wake()
}

/// The time of this machine.
struct SystemSourceClock: SourceClock {
    private static let start = ContinuousClock.now

    var now: Duration { ContinuousClock.now - Self.start }

    func makeWaiter() -> any SourceWaiter { Waiter() }

    private final class Waiter: SourceWaiter {
        private let signal = DispatchSemaphore(value: 0)

        func wait(until time: Duration) {
            let (seconds, attoseconds) = (time - SystemSourceClock().now).components
            guard seconds >= 0, attoseconds >= 0 else { return }
            // A second more than a century is a century.
            let nanoseconds = Int(min(seconds, 1 << 31)) * 1_000_000_000 + Int(attoseconds / 1_000_000_000) + 1
            _ = signal.wait(timeout: .now() + .nanoseconds(nanoseconds))
        }

        func wake() { signal.signal() }
    }
}
