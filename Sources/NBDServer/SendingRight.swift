// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Who may send on the stream of a connection: its loop, or a worker that has just filled a buffer.
///
/// One at a time, and between whole replies only: who has sent a part of one keeps the right, or hands it to the loop, whose
/// side is ``SendQueue``. The socket is not closed while a worker has the right: another client's could get its number.
final class SendingRight: Sendable {
    private enum Holder: UInt8, AtomicRepresentable {
        case nobody, loop, worker
        /// A worker has sent a part; the loop has not heard of it yet.
        case handed
        /// The connection has been closed.
        case closed
    }

    private let holder = Atomic(Holder.nobody)

    private func change(_ from: Holder, _ to: Holder) -> Bool {
        holder.compareExchange(expected: from, desired: to, ordering: .acquiringAndReleasing).exchanged
    }

    // MARK: The loop

    /// True when the loop has it now, or had it before.
    func takeForLoop() -> Bool { change(.nobody, .loop) || holder.load(ordering: .acquiring) == .loop }

    /// The loop has the part that a worker has handed to it.
    func takeHanded() { _ = change(.handed, .loop) }

    /// All replies that the loop had begun to send have left, to their last bytes.
    func giveBackFromLoop() { _ = change(.loop, .nobody) }

    /// Nobody gets it any more.
    /// - Returns: false when a worker is sending; it is told when it has finished.
    func close() -> Bool { holder.exchange(.closed, ordering: .acquiringAndReleasing) != .worker }

    // MARK: Workers

    /// False when somebody else is sending, or has sent a part.
    func takeForWorker() -> Bool { change(.nobody, .worker) }

    /// False when the connection has been closed meanwhile: its end is the worker's to tell.
    func giveBackFromWorker() -> Bool { change(.worker, .nobody) }

    /// The loop is to send the rest, or to close the connection. False when the connection has been closed meanwhile, see ``giveBackFromWorker()``.
    func handToLoop() -> Bool { change(.worker, .handed) }
}
