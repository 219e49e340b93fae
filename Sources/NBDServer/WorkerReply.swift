// SPDX-License-Identifier: Apache-2.0

extension Transmission {
    /// Has a worker do something, if the connection is still open when its turn comes.
    /// - Parameter dropped: called when it is not, on any thread.
    func onWorker(dropped: @escaping @Sendable () -> Void = {}, _ work: @escaping @Sendable () -> Void) {
        lane.run(for: connection.owner, dropped: dropped) { [self] in connection.isClosed ? dropped() : work() }
    }

    /// Takes a buffer with a reply back from a worker.
    /// - Parameter sent: what the worker has done with it beside filling it.
    func workerFinished(_ buffer: PayloadBuffer, _ sent: SendingRight.Sent = .nothing) {
        workersBusy -= 1
        guard !connection.isClosed else {
            memory.put(buffer)
            return sent == .closed ? connection.end() : ()
        }
        connection.countSentByWorkers()
        switch sent {
        case .nothing: connection.sendQueue.enqueue(buffer)
        case .part:
            connection.sendQueue.resume(buffer)
            connection.waitForClient()
        case .all: memory.put(buffer)
        case .failed, .closed:
            memory.put(buffer)
            return connection.hungUp()
        }
        connection.pumpSoon()
    }
}
