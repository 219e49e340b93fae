// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Dispatch
import Logging

/// The state of a connection whose client has not chosen an export yet.
///
/// Belongs to the queue of the connection's loop.
final class Negotiating {
    /// Called by it alone.
    private unowned let connection: Connection
    private var negotiation: Negotiation

    /// - Parameter negotiation: as far as it is.
    init(_ connection: Connection, _ negotiation: Negotiation) {
        self.connection = connection
        self.negotiation = negotiation
    }

    /// Tells the client of the server's end from now on, whatever it asks.
    func stop() { negotiation.isStopping = true }

    /// Handles the next message.
    func next() -> Connection.Step {
        let smallest = connection.memory.sizes.smallest
        guard connection.sendQueue.room(for: Negotiation.longestOutput, payload: smallest) != nil else {
            if !connection.sendQueue.isFilling { connection.close("there is no memory for a reply") }
            return .flushFirst
        }
        var rest = connection.input.all
        var replies: [UInt8] = []
        let before = rest.count
        let outcome = negotiation.receive(&rest, &replies)
        let used = connection.input.drop(before - rest.count)
        for note in negotiation.notes ?? [] { connection.log.debug("\(note)") }
        if negotiation.notes != nil { negotiation.notes = [] }
        if !replies.isEmpty { connection.send(replies) }
        switch outcome {
        case .incomplete: return used > 0 || !replies.isEmpty || negotiation.isListing ? .handled() : .incomplete
        case .startTLS:
            // What came behind it in the clear may come from somebody in between.
            guard connection.input.count == 0 else {
                connection.close("sent more in the clear behind NBD_OPT_STARTTLS")
                return .incomplete
            }
            connection.phase = .securing(Securing(connection, negotiation))
            return .handled()
        case .transmission(let session):
            beginTransmission(session)
            return .handled()
        case .close(let reason):
            connection.takeNoMore(reason)
            return .incomplete
        }
    }

    private func beginTransmission(_ session: Session) {
        connection.log = connection.context.log.logger(client: connection.id, isStranger: false)
        connection.log.debug("chose export \(ShownText.quoted(session.export.name))")
        connection.phase = .transmitting(Transmission(connection, session))
        connection.watch?.setDeadline(.never, nil)
        connection.accounts.expect(session.export.device.size)
        connection.context.observe(.negotiated(id: connection.id))
        // Of an empty disk there is nothing more to transfer.
        if session.export.device.size == 0 { connection.count() }
    }
}
