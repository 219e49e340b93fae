// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Logging
import Synchronization

extension Connection {
    /// How long to wait before looking again whether a client has taken its last replies, which nothing tells.
    private static let glance = DispatchTimeInterval.milliseconds(20)

    /// Takes no more requests; replies that are under way leave, as long as the client takes some in time.
    func takeNoMore(_ reason: Sentence?) {
        if let reason { log.info(telling: "\(reason); connection closed") }
        phase = .leaving
        waitForProgress()
    }

    /// Waits until the client takes some of its last replies, not for ever.
    func waitForProgress() {
        watch?.setDeadline(context.limits.goodbye) { [self] in close("does not take its replies") }
    }

    /// Nothing is left to be handled or sent.
    func everythingHasLeft() {
        switch phase {
        case .securing(let securing): beginSecuring(securing)
        case .transmission where isStopping && workersBusy == 0 && writePayload == nil:
            // Requests that wait in the socket are refused, too.
            guard hasHeardAll else { return loop.run { [self] in readable() } }
            guard socket.unsentCount > 0 else { return finish() }
            watch?.setDeadline(Self.glance) { [self] in
                hasHeardAll = false
                pump()
            }
        case .leaving where workersBusy == 0: finish()
        default: break
        }
    }

    /// Ends the server's side of the conversation.
    func finish() {
        phase = .drained
        let owesNothing = socket.unsentCount == 0
        stream.endSending()
        if isStopping { return owesNothing ? close(nil) : letGo() }
        watch?.setDeadline(context.limits.farewell) { [self] in close(nil) }
    }

    /// Closes as soon as the client has taken everything; the server stops, and does not wait for it to hang up.
    func letGo() {
        guard socket.unsentCount > 0 else { return close(nil) }
        watch?.setDeadline(Self.glance) { [self] in letGo() }
    }

    /// The client has gone before it had all replies. Nobody has to be told when it had said good-bye.
    func hungUp() {
        close(hasSaidGoodbye() ? nil : "hung up before it had all replies")
    }

    /// Is a good-bye the last thing that the client has said, be it heard so far or not?
    private func hasSaidGoodbye() -> Bool {
        for _ in 0..<Self.receivesPerTurn {
            guard case .bytes = loop.receive(from: stream, appendingTo: &input) else { break }
        }
        switch phase {
        case .leaving, .drained: return true
        case .securing: return false
        case .negotiation: return Negotiation.isAbort(input.all.suffix(NBDOptionHeader.encodedLength))
        case .transmission(let session):
            let last = NBDRequest(decoding: input.all.suffix(session.mode.requestLength), session.mode)
            return last.flatMap { NBDProtocol.Command(rawValue: $0.type) } == .disconnect
        }
    }

    /// Closes at once, whatever is under way.
    /// - Parameter reason: for the log; nil when there is nothing to say.
    func close(_ reason: String?) {
        guard !isClosed else { return }
        hasClosed.store(true, ordering: .relaxed)
        if let reason { log.info("\(reason); connection closed") }
        // A worker that still uses the descriptor must not find another client's under its number; it ends the connection
        // when it has finished.
        let isSecuring = if case .securing(let securing) = phase { securing.step == .working } else { false }
        let isInUse = !right.close() || isSecuring
        phase = .drained
        input = ReceivedBytes()
        pieces = nil
        starved = []
        writePayload?.abandon(memory)
        writePayload = nil
        sendQueue.releaseAll()
        // What has not begun is nobody's any more; what has looks at `isClosed` now and then.
        lane.drop(owner)
        context.handshakes.drop(owner)
        showStatus()
        guard isInUse else { return end() }
        // A hang-up would be told again and again.
        _ = watch?.watch(reading: false, writing: false)
        socket.endBoth()
    }

    /// Gives up the socket.
    func end() {
        watch?.cancel()
        countSentByWorkers()
        context.observe(.ended(id: id, bytesRead: accounts.bytesRead))
    }
}
