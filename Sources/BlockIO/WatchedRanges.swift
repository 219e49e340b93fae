// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Ranges that are changed under a ``RangeLock``, and read by others who hold nothing.
///
/// While some changes are under way, what is read can be neither old nor new: halves of two states decrypt to noise. These are
/// counted, before and after; a read beside one of them is done again, with its range held. Other reads pay two atomic loads.
public final class WatchedRanges: Sendable {
    private let lock = RangeLock()
    private let begunCount = Atomic<UInt64>(0)
    private let endedCount = Atomic<UInt64>(0)

    /// Nobody changes anything.
    public init() {}

    /// Waits until nobody holds a part of `range`, and takes it, to change it; see ``release(_:)``.
    public func acquire(_ range: Range<UInt64>) { lock.acquire(range) }

    /// Gives back a range that this thread holds.
    public func release(_ range: Range<UInt64>) { lock.release(range) }

    /// Does what nobody must read half of, in a range that this thread holds.
    public func disturb(_ body: () throws(BlockError) -> Void) throws(BlockError) {
        begunCount.add(1, ordering: .sequentiallyConsistent)
        defer { endedCount.add(1, ordering: .sequentiallyConsistent) }
        try body()
    }

    /// Reads a range with `body`, once more if somebody disturbed any of them meanwhile.
    /// - Throws: ``BlockError``; ``BlockError/wouldBlock`` when the mode does not let it wait for them.
    public func read(
        _ range: Range<UInt64>, _ mode: ReadMode, _ body: () throws(BlockError) -> Void
    ) throws(BlockError) {
        let ended = endedCount.load(ordering: .sequentiallyConsistent)
        try body()
        guard begunCount.load(ordering: .sequentiallyConsistent) != ended else { return }
        guard mode.mayWait else { throw .wouldBlock }
        lock.acquire(range)
        defer { lock.release(range) }
        try body()
    }
}
