// SPDX-License-Identifier: Apache-2.0

extension Connection {
    /// Receives in a row of what TLS holds back before other clients of the loop have their turn.
    static let receivesPerTurn = 16

    /// Receives and serves once; what is still in the socket then is told of again.
    func readable() {
        if case .securing(let securing) = phase { return continueSecuring(securing) }
        // It may be this processor that the worker needs.
        guard !waiting.contains(.right) else { return EventLoop.giveWay() }
        for _ in 0..<Self.receivesPerTurn {
            guard !isClosed, waiting.isDisjoint(with: .toBeResumed), watch?.isReading == true else { return }
            // Nothing else can come before the rest of a payload.
            let payload = input.count == 0 ? writePayload?.receive(from: stream) : nil
            switch payload ?? loop.receive(from: stream, appendingTo: &input) {
            case .wouldBlock:
                if isStopping, !hasHeardAll {
                    hasHeardAll = true
                    pump()
                }
                return
            // A client that shuts down its sending side has gone: nobody waits for replies.
            case .closed: close(nil)
            case .bytes:
                stall?.hasMoved = true
                pump()
            }
            guard stream.hasPending else { return }
        }
        // A client that only talks does not keep the others of the loop from being heard.
        loop.run { [self] in readable() }
    }

    /// The client has taken some of what was sent.
    func writable() {
        if isBlocked, !isClosed {
            waiting.remove(.room)
            stall?.hasMoved = true
            if case .leaving = phase { waitForProgress() }
            pump()
        } else if case .securing(let securing) = phase {
            continueSecuring(securing)
        }
    }

    /// Says what the loop has to tell of from now on.
    func updateInterest() {
        guard !isClosed else { return }
        if case .securing(let securing) = phase, !isBlocked {
            _ = watch?.watch(reading: securing.step == .waitingToRead, writing: securing.step == .waitingToWrite)
            return
        }
        let isLeaving = if case .leaving = phase { true } else { false }
        let wantsToRead = waiting.isDisjoint(with: [.room, .turn, .workers]) && pieces == nil && !isLeaving
        if watch?.watch(reading: wantsToRead, writing: isBlocked) == true, stream.hasPending {
            loop.run { [self] in readable() }
        }
    }
}
