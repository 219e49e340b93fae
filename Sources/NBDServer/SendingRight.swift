// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Who may send on the stream of a connection: its loop, or a worker that has just filled a buffer.
///
/// One at a time. *A reply that has begun keeps the right to send until its last byte has left, whoever sends it, in pieces or
/// not*: nothing comes between its bytes, neither what workers would send nor what they have handed to the loop. A worker that
/// has sent a part hands the right to the loop with it. The loop's side is ``SendQueue``, that of workers
/// ``send(_:to:accounts:)``: nobody else takes the right or gives it back.
///
/// The socket is not closed while a worker has the right: another client's could get its number.
///
/// A class of its own kind only in tests, which watch it, and break it on purpose.
class SendingRight: @unchecked Sendable {
    private enum Holder: UInt8, AtomicRepresentable {
        case nobody, loop, worker
        /// A worker has sent a part; the loop has not heard of it yet.
        case handed
        /// The connection has been closed.
        case closed
    }

    private let holder = Atomic(Holder.nobody)

    /// Does nobody have it, though somebody might? For tests.
    var isFree: Bool { holder.load(ordering: .acquiring) == .nobody }

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

    /// What a worker has done with a reply.
    enum Sent {
        /// Nothing: somebody else is sending.
        case nothing
        /// It has sent less than all; the loop sends what is left.
        case part
        case all
        /// The client has gone.
        case failed
        /// The connection was closed meanwhile, and waits for the worker to give up the socket.
        case closed
    }

    /// Sends a whole reply from the worker that has filled a buffer with it, if nobody else is sending: it is in the cache of
    /// this processor.
    /// - Parameter accounts: told of the data before the right is back: the client may be gone, and its accounts closed, when
    ///   the loop hears of it.
    func send(_ buffer: PayloadBuffer, to stream: any ByteStream, accounts: ClientAccounts) -> Sent {
        guard stream.isTwoWay, takeForWorker() else { return .nothing }
        switch buffer.send(to: stream) {
        case .bytes:
            accounts.addSentByWorker(buffer.dataCount)
            return giveBackFromWorker() ? .all : .closed
        case .wouldBlock: return handToLoop() ? .part : .closed
        case .closed: return handToLoop() ? .failed : .closed
        }
    }
}
