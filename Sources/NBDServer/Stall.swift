// SPDX-License-Identifier: Apache-2.0

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
