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
        phase = .leaving(phase.transmission)
        waitForProgress()
    }

    /// Waits until the client takes some of its last replies, not for ever.
    func waitForProgress() {
        watch?.setDeadline(context.limits.goodbye) { [self] in close("does not take its replies") }
    }

    /// Nothing is left to be handled or sent.
    func everythingHasLeft() {
        switch phase {
        case .securing(let securing): securing.start()
        case .transmitting(let transmission) where isStopping && transmission.isIdle:
            // Requests that wait in the socket are refused, too.
            guard hasHeardAll else { return readLater() }
            guard socket.unsentCount > 0 else { return finish() }
            watch?.setDeadline(Self.glance) { [self] in
                hasHeardAll = false
                pump()
            }
        case .leaving where workersBusy == 0: finish()
        case .negotiating, .transmitting, .leaving, .drained: break
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
            guard case .bytes = input.receive(from: stream, through: loop.scratch) else { break }
        }
        switch phase {
        case .leaving, .drained: return true
        case .securing: return false
        case .negotiating: return Negotiation.isAbort(input.all.suffix(NBDOptionHeader.encodedLength))
        case .transmitting(let transmission):
            let mode = transmission.session.mode
            let last = NBDRequest(decoding: input.all.suffix(mode.requestLength), mode)
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
        let isSecuring = if case .securing(let securing) = phase { securing.isWorking } else { false }
        let isInUse = !right.close() || isSecuring
        phase.transmission?.abandon()
        phase = .drained
        _ = input.drop(input.count)
        sendQueue.releaseAll()
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
