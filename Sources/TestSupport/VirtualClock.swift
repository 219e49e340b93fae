// SPDX-License-Identifier: Apache-2.0

public import BlockIO
import Dispatch
import Synchronization

/// A time that passes only while every thread that takes part waits: nothing sleeps, and what takes how long is counted.
///
/// Whoever is the last to wait carries out what comes next. A test that has threads of its own says how many take part.
public final class VirtualClock: SourceClock {
    private struct Event {
        let time: Duration
        let body: @Sendable () -> Void
    }

    private struct State {
        var now = Duration.zero
        /// In order; of those at the same time, the earlier one first.
        var events: [Event] = []
        var participants = 1
        var waiting: [Int: (signal: DispatchSemaphore, round: Int)] = [:]
        var woken: Set<Int> = []
        var isAdvancing = false
        var numbers = 0

        mutating func add(_ event: Event) {
            let place = events.firstIndex { $0.time > event.time } ?? events.count
            events.insert(event, at: place)
        }

        mutating func number() -> Int {
            numbers += 1
            return numbers
        }
    }

    private let state = Locked(State())

    /// One thread takes part, which is the one that calls.
    public init() {}

    /// Since the clock was made.
    public var now: Duration { state.withLock { $0.now } }

    /// So many threads take part from now on; each calls ``leave()`` at its end.
    public func takePart(_ count: Int) { state.withLock { $0.participants = count } }

    /// A thread takes part no more.
    public func leave() {
        state.withLock { $0.participants -= 1 }
        advance()
    }

    /// Has `body` called when so much time has passed, on any thread that takes part.
    public func after(_ delay: Duration, _ body: @escaping @Sendable () -> Void) {
        state.withLock { $0.add(Event(time: $0.now + delay, body: body)) }
    }

    /// Lets so much time pass; for a test whose only thread this is.
    public func pass(_ time: Duration) {
        let end = now + time
        makeWaiter().wait(until: end)
    }

    /// Makes what a thread waits by.
    public func makeWaiter() -> any SourceWaiter { Waiter(clock: self, number: state.withLock { $0.number() }) }

    /// Carries out what comes next until somebody does not wait any more.
    private func advance() {
        while true {
            let event: Event? = state.withLock { state in
                guard !state.isAdvancing, state.participants > 0, state.waiting.count >= state.participants,
                    !state.events.isEmpty
                else { return nil }
                state.isAdvancing = true
                let event = state.events.removeFirst()
                state.now = max(state.now, event.time)
                return event
            }
            guard let event else { return }
            event.body()
            state.withLock { $0.isAdvancing = false }
        }
    }

    private final class Waiter: SourceWaiter {
        private let clock: VirtualClock
        private let number: Int

        init(clock: VirtualClock, number: Int) {
            self.clock = clock
            self.number = number
        }

        func wait(until time: Duration) {
            let signal: DispatchSemaphore? = clock.state.withLock { state in
                guard state.woken.remove(number) == nil, time > state.now else { return nil }
                let signal = DispatchSemaphore(value: 0)
                let round = state.number()
                state.waiting[number] = (signal, round)
                state.add(Event(time: time) { [clock, number] in clock.endRound(round, of: number) })
                return signal
            }
            guard let signal else { return }
            clock.advance()
            signal.wait()
        }

        func wake() {
            let signal: DispatchSemaphore? = clock.state.withLock { state in
                let signal = state.waiting.removeValue(forKey: number)?.signal
                if signal == nil { state.woken.insert(number) }
                return signal
            }
            signal?.signal()
        }
    }

    private func endRound(_ round: Int, of number: Int) {
        let signal: DispatchSemaphore? = state.withLock { state in
            guard state.waiting[number]?.round == round else { return nil }
            return state.waiting.removeValue(forKey: number)?.signal
        }
        signal?.signal()
    }
}
