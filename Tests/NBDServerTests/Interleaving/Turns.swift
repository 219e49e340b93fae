// SPDX-License-Identifier: Apache-2.0

import Dispatch

@testable import NBDServer

/// Threads of which one at a time works: who has the turn gives it to another, and waits until it comes back.
///
/// Seat 0 is of the thread that has made it, and has the first turn; the others have threads of their own.
final class Turns: Sendable {
    private final class Seat: @unchecked Sendable {
        let signal = DispatchSemaphore(value: 0)
        /// Changed by who has the turn.
        var work: (() -> Void)?
    }

    private let seats: [Seat]

    init(threads: Int) {
        let seats = (0...threads).map { _ in Seat() }
        self.seats = seats
        for seat in seats.dropFirst() {
            let hasStarted = WorkerThread.start(named: "turn") {
                while true {
                    seat.signal.wait()
                    // It is not here when the seats are given up.
                    guard let work = seat.work else { return }
                    seat.work = nil
                    work()
                }
            }
            precondition(hasStarted)
        }
    }

    deinit { for seat in seats { seat.signal.signal() } }

    /// What a seat does when it gets the turn; it has done what it had to do before.
    func assign(_ work: @escaping () -> Void, to seat: Int) { seats[seat].work = work }

    /// Lets another one work. Who gives the turn away touches nothing until it comes back.
    func give(to seat: Int) { seats[seat].signal.signal() }

    /// Waits for the turn.
    func wait(_ seat: Int) { seats[seat].signal.wait() }
}
