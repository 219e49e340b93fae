// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Somebody who wants to see the bytes that clients are given.
public protocol ReadObserver: Sendable {
    /// These bytes, which are within the export, have been read for a client; on any thread, which waits for it.
    func read(_ bytes: RawSpan, at offset: UInt64)
}

/// What of an export clients have been given: bytes that they have read, and bytes of which they have been told that they are
/// zeros (`base:allocation` of the NBD protocol), so that there was no need to. Any thread may use it.
///
/// It says what the server has read and framed for its clients, not that they have received or kept it.
public final class Coverage: Sendable {
    private struct State {
        var read: ByteSet
        var zeros: ByteSet
        var failed: ByteSet
    }

    private let state: Locked<State>
    /// Sees all that is read; nil: nobody does.
    public let observer: (any ReadObserver)?

    /// Nothing of an export of so many bytes.
    public init(size: UInt64, observer: (any ReadObserver)? = nil) {
        self.observer = observer
        state = Locked(State(read: ByteSet(size: size), zeros: ByteSet(size: size), failed: ByteSet(size: size)))
    }

    /// What there is now: bytes that were read or told to be zeros; those of them that were read; and those that could not be
    /// read when somebody wanted them, of which another attempt may have read some.
    public var sets: (given: ByteSet, read: ByteSet, failed: ByteSet) {
        let (read, zeros, failed) = state.withLock { ($0.read, $0.zeros, $0.failed) }
        return (read.union(zeros), read, failed)
    }

    func read(_ offset: UInt64, _ count: Int) {
        state.withLock { $0.read.insert(offset..<offset + UInt64(count)) }
    }

    func toldZeros(_ range: Range<UInt64>) { state.withLock { $0.zeros.insert(range) } }

    func failed(_ offset: UInt64, _ count: Int) { state.withLock { $0.failed.insert(offset..<offset + UInt64(count)) } }
}
