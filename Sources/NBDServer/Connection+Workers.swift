// SPDX-License-Identifier: Apache-2.0

import Synchronization

extension Connection {
    /// What a worker has done with a reply beside filling a buffer with it.
    enum Sent {
        case nothing
        /// It tried; the loop sends what is left.
        case part
        case all
        /// The client has gone.
        case failed
        /// The connection was closed meanwhile, and waits for the worker to give up the socket.
        case closed
    }

    /// Has a worker do something, if the connection is still open when its turn comes.
    /// - Parameter dropped: called when it is not, on any thread.
    func onWorker(dropped: @escaping @Sendable () -> Void = {}, _ work: @escaping @Sendable () -> Void) {
        lane.run(for: owner, dropped: dropped) { [self] in isClosed ? dropped() : work() }
    }

    /// Sends a reply that a worker has filled a buffer with, if nobody else is sending: it is in the cache of this
    /// processor. Called on a worker.
    func sendFromWorker(_ buffer: PayloadBuffer, to stream: any ByteStream) -> Sent {
        guard stream.isTwoWay, right.takeForWorker() else { return .nothing }
        switch buffer.send(to: stream) {
        case .bytes:
            // Before the right is back: the client may be gone, and the accounts closed, when the loop hears of it.
            sentByWorkers.add(buffer.dataCount, ordering: .relaxed)
            return right.giveBackFromWorker() ? .all : .closed
        case .wouldBlock: return right.handToLoop() ? .part : .closed
        case .closed: return right.handToLoop() ? .failed : .closed
        }
    }

    /// Takes a buffer with a reply back from a worker.
    func workerFinished(_ buffer: PayloadBuffer, _ sent: Sent = .nothing) {
        workersBusy -= 1
        guard !isClosed else {
            memory.put(buffer)
            return sent == .closed ? end() : ()
        }
        countSentByWorkers()
        switch sent {
        case .nothing: sendQueue.enqueue(buffer)
        case .part:
            sendQueue.resume(buffer)
            waitForClient()
        case .all: memory.put(buffer)
        case .failed, .closed:
            memory.put(buffer)
            return hungUp()
        }
        pump()
    }

    /// Adds what workers have sent to the accounts.
    func countSentByWorkers() {
        let sent = sentByWorkers.exchange(0, ordering: .relaxed)
        if sent > 0 { count(read: sent) }
    }
}
