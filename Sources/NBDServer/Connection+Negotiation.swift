// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Dispatch
import Logging

/// TLS on its way: nothing else is said before it is there.
struct Securing {
    enum Step {
        /// The permission to begin has not left yet.
        case waitingToStart
        /// A worker computes.
        case working
        case waitingToRead, waitingToWrite
    }

    /// Goes on afterwards.
    var negotiation: Negotiation
    /// Nil before the start.
    var session: TLSSession?
    var step = Step.waitingToStart
}

extension Connection {
    /// Handles the next message of the negotiation.
    func negotiate(_ negotiation: Negotiation) -> Step {
        guard sendQueue.room(for: Negotiation.longestOutput, payload: memory.sizes.smallest) != nil else {
            if !sendQueue.isFilling { close("there is no memory for a reply") }
            return .flushFirst
        }
        var negotiation = negotiation
        var rest = input.all
        var replies: [UInt8] = []
        let before = rest.count
        let outcome = negotiation.receive(&rest, &replies)
        let used = input.drop(before - rest.count)
        for note in negotiation.notes ?? [] { log.debug("\(note)") }
        if negotiation.notes != nil { negotiation.notes = [] }
        phase = .negotiation(negotiation)
        if !replies.isEmpty { send(replies) }
        switch outcome {
        case .incomplete: return used > 0 || !replies.isEmpty || negotiation.isListing ? .handled() : .incomplete
        case .startTLS:
            // What came behind it in the clear may come from somebody in between.
            guard input.count == 0 else {
                close("sent more in the clear behind NBD_OPT_STARTTLS")
                return .incomplete
            }
            phase = .securing(Securing(negotiation: negotiation))
            return .handled()
        case .transmission(let session):
            begin(session)
            return .handled()
        case .close(let reason):
            takeNoMore(reason)
            return .incomplete
        }
    }

    private func begin(_ session: Session) {
        log = context.log.logger(client: id, isStranger: false)
        log.debug("chose export \(ShownText.quoted(session.export.name))")
        if let own = session.export.lane {
            lane = own
            requestsInFlight = max(requestsInFlight, own.width)
        }
        phase = .transmission(session)
        watch?.setDeadline(.never, nil)
        accounts.expect(session.export.device.size)
        context.observe(.negotiated(id: id))
        // Of an empty disk there is nothing more to transfer.
        if session.export.device.size == 0 { count() }
    }

    // MARK: TLS

    /// Begins once the permission to do so has left.
    func beginSecuring(_ securing: Securing) {
        guard securing.step == .waitingToStart, let tls = context.tls.context else { return }
        var securing = securing
        do {
            securing.session = try TLSSession(tls, socket: socket)
        } catch {
            return close("TLS cannot begin: \(error.description)")
        }
        continueSecuring(securing)
    }

    /// Has a worker do the next step: keys are computed, which would hold up the other clients of the loop.
    func continueSecuring(_ securing: Securing) {
        guard !isClosed, securing.step != .working, let session = securing.session else { return }
        var securing = securing
        securing.step = .working
        phase = .securing(securing)
        updateInterest()
        showStatus()
        context.handshakes.run(for: owner) { [self] in
            loop.run { [self] in end() }
        } _: { [self] in
            let isNeeded = !isClosed && !socket.hasHungUp
            let result = isNeeded ? session.handshake() : .failed(reason: "the client hung up")
            loop.run { [self] in secured(session, result) }
        }
    }

    private func secured(_ session: TLSSession, _ result: TLSSession.Handshake) {
        guard !isClosed, case .securing(var securing) = phase else { return end() }
        switch result {
        case .done:
            log.info("\(session.parameters ?? "TLS")\(session.peerName.map { " with \($0)" } ?? "")")
            stream = session
            securing.negotiation.startOver()
            phase = .negotiation(securing.negotiation)
            pump()
        case .wantsRead: wait(securing, .waitingToRead)
        case .wantsWrite: wait(securing, .waitingToWrite)
        case .failed(let reason):
            log.info(telling: "TLS failed: \(reason); connection closed")
            // The client has an alert to read.
            stream = session
            finish()
            updateInterest()
        }
    }

    private func wait(_ securing: Securing, _ step: Securing.Step) {
        var securing = securing
        securing.step = step
        phase = .securing(securing)
        updateInterest()
        showStatus()
    }
}
