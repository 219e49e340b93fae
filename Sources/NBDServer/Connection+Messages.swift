// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

extension Connection {
    /// Why a client is let go for which the system has not even the smallest buffer.
    static let noMemory = "there is no memory for its request"
    /// Messages in a row before other clients of the loop have their turn.
    private static let turn = 128
    /// As many at least, so that who has much to say does not leave one to each of the others.
    private static let leastTurn = 16

    /// Does everything that can be done without waiting.
    func pump() {
        var turn = Self.turn
        defer { showStatus() }
        waiting.subtract(.toBeResumed)
        work: while !isClosed, !isBlocked {
            if sendQueue.hasNext {
                guard flush() else { break }
                sendQueue.advance()
            } else if let pieces {
                guard flush(), !pieces.isWaiting else { break }
                readPiece(pieces)
            } else {
                switch nextMessage() {
                case .handled:
                    hasHeardAll = false
                    turn -= 1
                    if sendQueue.filledCount >= memory.sizes.enough {
                        guard flush() else { break work }
                    }
                    guard turn > 0, !loop.hasWork || turn > Self.turn - Self.leastTurn else {
                        // Other clients of the loop, and replies of workers, have their turn first.
                        waiting.insert(.turn)
                        guard flush() else { break work }
                        return loop.run { [self] in takeNextTurn() }
                    }
                case .flushFirst:
                    guard flush() else { break work }
                case .waitForWorkers:
                    // With none of its requests at a worker nobody would say when to go on.
                    guard workersBusy > 0 else {
                        close(Self.noMemory)
                        break work
                    }
                    waiting.insert(.workers)
                    _ = flush()
                    break work
                case .incomplete:
                    if flush() { everythingHasLeft() }
                    break work
                }
            }
        }
        // What there is to receive is told of until then; that is soon.
        if !waiting.contains(.right) { updateInterest() }
    }

    private func takeNextTurn() {
        pump()
        // While it was paused nothing was received, and the socket will not tell of what TLS holds back.
        if stream.hasPending { readable() }
    }

    private func nextMessage() -> Step {
        if payloadToSkip > 0 {
            payloadToSkip -= input.drop(payloadToSkip)
            return payloadToSkip == 0 ? .handled() : .incomplete
        }
        // Its payload comes next, and what it has of the memory is not there for others.
        if let writePayload { return receive(writePayload) }
        if !starved.isEmpty { return serveStarved() }
        switch phase {
        case .securing: return .incomplete
        case .leaving, .drained:
            _ = input.drop(input.count)
            return .incomplete
        case .negotiation(let negotiation): return negotiate(negotiation)
        case .transmission(let session):
            guard let bytes = input.front(session.mode.requestLength) else { return .incomplete }
            guard let request = NBDRequest(decoding: bytes, session.mode) else {
                takeNoMore("sent a request without the magic number")
                return .incomplete
            }
            let step = serve(request, session)
            if case .handled(let payload) = step {
                _ = input.drop(session.mode.requestLength)
                payloadToSkip = payload
            }
            return step
        }
    }

    /// Adds negotiation bytes, for which there is room.
    func send(_ bytes: [UInt8]) {
        if !sendQueue.add(bytes) { close("there is no memory for a reply") }
    }

    /// Sends what is in the output buffer.
    /// - Returns: true when all of it has left.
    func flush() -> Bool {
        switch sendQueue.flush(to: stream) {
        case .done(let dataCount):
            if dataCount > 0 { count(read: dataCount) }
            return true
        case .waitsForRight:
            waiting.insert(.right)
            return false
        case .blocked:
            waitForClient()
            return false
        case .closed:
            hungUp()
            return false
        }
    }
}
