// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Logging

/// The state of a connection on whose way to TLS nothing else is said.
///
/// Belongs to the queue of the connection's loop, which has workers compute.
final class Securing: @unchecked Sendable {
    private enum Step {
        /// The permission to begin has not left yet.
        case waitingToStart
        /// A worker computes.
        case working
        case waitingToRead, waitingToWrite
    }

    /// Forgets this when it goes on.
    private let connection: Connection
    /// Goes on afterwards.
    private var negotiation: Negotiation
    /// Nil before the start.
    private var session: TLSSession?
    private var step = Step.waitingToStart

    /// Waits for ``start()``.
    init(_ connection: Connection, _ negotiation: Negotiation) {
        self.connection = connection
        self.negotiation = negotiation
    }

    /// Does a worker use the descriptor of the socket?
    var isWorking: Bool { step == .working }
    /// What the loop is to tell of.
    var interest: (reading: Bool, writing: Bool) { (step == .waitingToRead, step == .waitingToWrite) }

    /// Begins once the permission to do so has left.
    func start() {
        guard step == .waitingToStart, let tls = connection.context.tls.context else { return }
        do {
            session = try TLSSession(tls, socket: connection.socket)
        } catch {
            return connection.close("TLS cannot begin: \(error.description)")
        }
        proceed()
    }

    /// Has a worker do the next step: keys are computed, which would hold up the other clients of the loop.
    func proceed() {
        guard !connection.isClosed, step != .working, let session else { return }
        step = .working
        connection.updateInterest()
        connection.showStatus()
        connection.context.handshakes.run(for: connection.owner) { [connection] in
            connection.loop.run { connection.end() }
        } _: { [self] in
            let isNeeded = !connection.isClosed && !connection.socket.hasHungUp
            let result = isNeeded ? session.handshake() : .failed(reason: "the client hung up")
            connection.loop.run { [self] in finished(session, result) }
        }
    }

    /// A worker has done a step.
    private func finished(_ session: TLSSession, _ result: TLSSession.Handshake) {
        guard !connection.isClosed else { return connection.end() }
        switch result {
        case .done:
            connection.log.info("\(session.parameters ?? "TLS")\(session.peerName.map { " with \($0)" } ?? "")")
            connection.stream = session
            negotiation.startOver()
            connection.phase = .negotiating(Negotiating(connection, negotiation))
            connection.pump()
        case .wantsRead: wait(.waitingToRead)
        case .wantsWrite: wait(.waitingToWrite)
        case .failed(let reason):
            connection.log.info(telling: "TLS failed: \(reason); connection closed")
            // The client has an alert to read.
            connection.stream = session
            connection.finish()
            connection.updateInterest()
        }
    }

    private func wait(_ step: Step) {
        self.step = step
        connection.updateInterest()
        connection.showStatus()
    }
}
