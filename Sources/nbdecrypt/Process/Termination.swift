// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch

/// What happens at SIGINT, SIGTERM and SIGHUP, from the start of a command to its end.
///
/// The first signal goes to the handler, if there is one by then. Without a handler, and at a second signal, the program
/// cleans up and ends at once.
final class Termination: Sendable {
    private typealias Action = @Sendable () -> Void

    private struct State {
        var cleanUps: [Int: Action] = [:]
        var nextID = 0
        var handler: (@Sendable (Int32) -> Void)?
        /// What is true then, for the last line; nil: there is none.
        var farewell: String?
        /// The program cleans up, and ends.
        var isOver = false
    }

    private let state = Locked(State())

    /// Takes the signals from now on. One for each process, which has blocked them in all threads.
    init() {
        DispatchQueue(label: "nbdecrypt.signals").async { [self] in
            while true { take(Process.waitForTerminationSignal()) }
        }
    }

    private func take(_ signal: Int32) {
        let handler = state.withLock { state in
            defer { state.handler = nil }
            return state.handler
        }
        if let handler { return handler(signal) }
        let (cleanUps, farewell) = state.withLock { state in
            // Once: what is there later under the same name is another's.
            defer { state.cleanUps = [:] }
            state.isOver = true
            return (state.cleanUps.sorted { $0.key > $1.key }.map(\.value), state.farewell)
        }
        for cleanUp in cleanUps { cleanUp() }
        if let farewell { Process.printError("stopped by signal \(signal): \(farewell)") }
        Process.exitNow(128 + signal)
    }

    /// Gives the first signal to `handler`, on a thread of its own.
    func handleFirst(_ handler: @escaping @Sendable (Int32) -> Void) {
        state.withLock { $0.handler = handler }
    }

    /// Says this when a signal has ended the program, and all is cleaned up.
    func sayAtEnd(_ farewell: String) { state.withLock { $0.farewell = farewell } }

    /// Does `cleanUp` if the program is ended before ``end(_:)`` has done it.
    func begin(_ cleanUp: @escaping @Sendable () -> Void) -> Int {
        begin(making: {}) { cleanUp() }.id
    }

    /// Makes something that has to be cleaned up. No signal comes between: until this returns, it waits. So nothing that takes
    /// long is to be done here. While the program is being ended nothing is made, and it does not return.
    func begin<Made: Sendable, Fault: Error>(
        making make: () throws(Fault) -> Made, _ cleanUp: @escaping @Sendable (Made) -> Void
    ) throws(Fault) -> (made: Made, id: Int) {
        let begun = try state.withLock { (state) throws(Fault) -> (made: Made, id: Int)? in
            // Nobody would clean it up any more.
            guard !state.isOver else { return nil }
            let made = try make()
            state.nextID += 1
            state.cleanUps[state.nextID] = { cleanUp(made) }
            return (made, state.nextID)
        }
        guard let begun else { Process.waitForTheEnd() }
        return begun
    }

    /// Does what ``begin(_:)`` was given, once. While the program is being ended it does not return: whoever missed what has been
    /// cleaned up would end it otherwise, with another status, before the rest was.
    func end(_ id: Int) {
        let (cleanUp, isOver) = state.withLock { ($0.cleanUps.removeValue(forKey: id), $0.isOver) }
        if isOver { Process.waitForTheEnd() }
        cleanUp?()
    }

    /// Leaves out what ``begin(_:)`` was given.
    func forget(_ id: Int) {
        state.withLock { _ = $0.cleanUps.removeValue(forKey: id) }
    }

    /// The same of something that is complete, and is no longer removed. While the program is being ended it does not return,
    /// since then it has been.
    ///
    /// - Parameter farewell: what is said from now on; nil: what was said before.
    func keep(_ id: Int, saying farewell: String? = nil) {
        state.withLock { state in
            state.cleanUps.removeValue(forKey: id)
            state.farewell = farewell ?? state.farewell
        }
        waitIfOver()
    }

    /// Does not return while the program is being ended: for who has seen what that does, and would tell of it as of a failure.
    func waitIfOver() {
        if state.withLock({ $0.isOver }) { Process.waitForTheEnd() }
    }
}
