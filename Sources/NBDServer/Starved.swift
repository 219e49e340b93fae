// SPDX-License-Identifier: Apache-2.0

/// A request for whose reply a worker has found no memory.
enum Starved {
    case read(RequestHandler)
    case operation(RequestHandler, RequestRules.Operation, BlockStatusFilter?)
}

extension Transmission {
    /// Has the loop see to a request for whose reply there is no memory. Called on a worker.
    func starve(_ request: Starved) {
        loop.run { [self] in
            workersBusy -= 1
            guard !connection.isClosed else { return }
            starved.append(request)
            connection.pump()
        }
    }

    /// Serves the first of the requests that have found no memory, once this client has none: then it gets some, however
    /// little there is.
    func serveStarved() -> Connection.Step {
        guard !connection.sendQueue.isFilling else { return .flushFirst }
        guard workersBusy == 0 else { return .waitForWorkers }
        connection.sendQueue.release()
        switch starved.removeFirst() {
        case .read(let handler):
            pieces = PiecewiseRead(handler: handler)
        case .operation(let handler, let operation, let filter):
            // A worker would find none again, and come back here, without end.
            guard let buffer = memory.takeSmallest() else {
                connection.close(Connection.noMemory)
                return .incomplete
            }
            workersBusy += 1
            perform(handler, operation, filter: filter, into: buffer)
        }
        return .handled()
    }
}
