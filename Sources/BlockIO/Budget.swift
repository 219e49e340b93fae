// SPDX-License-Identifier: Apache-2.0

/// What one piece of work may cost, so that others are not held up by it: how many look-ups, how long they may take, and
/// whether anybody still waits for the result.
///
/// Every loop that a client's request or a damaged image can make long asks ``look()`` before each step. One thread at a
/// time uses it.
public final class Budget: @unchecked Sendable {
    private var left: Int
    private let deadline: ContinuousClock.Instant?
    private let isAbandoned: (@Sendable () -> Bool)?

    /// - Parameters:
    ///   - looks: how many look-ups there may be.
    ///   - deadline: nil: as long as they take, and no clock is read.
    ///   - isAbandoned: true when nobody wants the result any more; asked at each look-up.
    public init(looks: Int, until deadline: ContinuousClock.Instant? = nil, isAbandoned: (@Sendable () -> Bool)? = nil)
    {
        left = looks
        self.deadline = deadline
        self.isAbandoned = isAbandoned
    }

    /// Allows so many look-ups from now on; for a thread that keeps one value for many pieces of work.
    public func refill(_ looks: Int) { left = looks }

    /// Counts a look-up that is about to be made.
    /// - Returns: false when it must not be made: the work ends here, with what is known.
    public func look() -> Bool {
        guard left > 0 else { return false }
        left -= 1
        guard !isSpent else {
            left = 0
            return false
        }
        return true
    }

    /// Is the time over, or does nobody want the result? Asked while waiting, which costs no look-up.
    var isSpent: Bool {
        if let deadline, ContinuousClock.now >= deadline { return true }
        return isAbandoned?() ?? false
    }
}
