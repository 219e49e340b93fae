// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Lets one flush of a file run at a time, and gives its answer to all who had come before it began.
///
/// The system tells once for each open file that bytes did not reach the disk: of two flushes at the same time, one
/// would fail and the other succeed, though both are asked about the same bytes. Once a flush has failed, all fail: which
/// bytes are lost nobody knows, and a later success would vouch for them. That ends when the file is opened anew.
/// Source: fsync(2), "Notes"; `errseq_t` of Linux.
final class FlushGate: Sendable {
    private struct State {
        /// Those with a number up to this one have been flushed for.
        var served: UInt64 = 0
        var failure: BlockError?
    }

    /// How many have come so far, each with the number that it made.
    private let arrivals = Atomic<UInt64>(0)
    /// Held while a flush runs: that is what keeps a second one out.
    private let state = Locked(State())
    private let flushNow: @Sendable () -> BlockError?

    /// How many have asked so far.
    var arrivalCount: UInt64 { arrivals.load(ordering: .sequentiallyConsistent) }

    /// - Parameter flushNow: flushes the file, and tells why that failed; one call at a time, on any thread.
    init(_ flushNow: @escaping @Sendable () -> BlockError?) { self.flushNow = flushNow }

    /// Has every flush fail from now on, because a write that had to be durable did.
    func fail(_ error: BlockError) { state.withLock { $0.failure = $0.failure ?? error } }

    /// Returns when all that was written before the call is on disk. Waits for another flush that runs.
    /// - Throws: what a flush has failed with, from then on always.
    func pass() throws(BlockError) {
        let number = arrivals.add(1, ordering: .sequentiallyConsistent).newValue
        let failure: BlockError? = state.withLock { state in
            guard state.failure == nil, state.served < number else { return state.failure }
            // All of them have written what they ask about.
            let served = arrivalCount
            state.failure = flushNow()
            state.served = served
            return state.failure
        }
        if let failure { throw failure }
    }
}
