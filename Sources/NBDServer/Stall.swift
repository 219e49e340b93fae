// SPDX-License-Identifier: Apache-2.0

import Dispatch

/// For how long a client has done nothing while the server waits for it to take bytes of replies, or to send some of a
/// payload.
struct Stall {
    /// What can be seen of a client.
    struct Sight: Equatable {
        /// See ``Socket/unsentCount``.
        let unsentCount: Int
        /// See ``PayloadBufferPool/refusalCount``.
        let refusalCount: Int
    }

    private var since: ContinuousClock.Instant
    private var first: Sight
    /// Something has come from the client, or it has made room for more.
    var hasMoved = false

    /// It begins now.
    init(_ sight: Sight, at now: ContinuousClock.Instant) { (first, since) = (sight, now) }

    /// Has it gone on for too long?
    mutating func isTooLong(_ sight: Sight, at now: ContinuousClock.Instant, _ limits: ServerLimits) -> Bool {
        if hasMoved || sight.unsentCount != first.unsentCount {
            self = Stall(sight, at: now)
            return false
        }
        let isWanted = sight.refusalCount != first.refusalCount
        return now - since >= (isWanted ? limits.stallWhenWanted : limits.stall)
    }
}

extension Connection {
    /// Does the client hold memory of the server until it does something?
    private var isOwing: Bool { isBlocked || phase.transmission?.writePayload != nil && watch?.isReading == true }

    private var sight: Stall.Sight {
        Stall.Sight(unsentCount: socket.unsentCount, refusalCount: context.buffers.refusalCount)
    }

    /// Nothing is sent before the client has taken some of what it has.
    func waitForClient() {
        waiting.insert(.room)
        watchForStall()
    }

    /// Looks from now on whether a client that has to do something does; until it has. Called when it begins to hold the
    /// server up.
    func watchForStall() {
        guard stall == nil else { return }
        stall = Stall(sight, at: .now)
        lookLater()
    }

    private func lookLater() {
        loop.queue.asyncAfter(deadline: .now() + context.limits.stallLook) { [weak self] in self?.look() }
    }

    private func look() {
        guard !isClosed, isOwing else {
            stall = nil
            return
        }
        guard stall?.isTooLong(sight, at: .now, context.limits) == true else { return lookLater() }
        close(
            isBlocked
                ? "has not taken a byte of its replies for too long" : "has not sent the rest of a write for too long")
    }
}
