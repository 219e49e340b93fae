// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// What of an export clients have been given: bytes that they have read, and bytes of which they have been told that they are
/// zeros (`base:allocation` of the NBD protocol), so that there was no need to. Any thread may use it.
///
/// It says what the server has read and framed for its clients, not that they have received or kept it.
public final class Coverage: ExportObserver {
    private struct State {
        var read: ByteSet
        var zeros: ByteSet
        var failed: ByteSet
    }

    private let state: Locked<State>

    /// Nothing of an export of so many bytes.
    public init(size: UInt64) {
        state = Locked(State(read: ByteSet(size: size), zeros: ByteSet(size: size), failed: ByteSet(size: size)))
    }

    /// What there is now: bytes that were read or told to be zeros; those of them that were read; and those that could not be
    /// read when somebody wanted them, of which another attempt may have read some.
    public var sets: (given: ByteSet, read: ByteSet, failed: ByteSet) {
        let (read, zeros, failed) = state.withLock { ($0.read, $0.zeros, $0.failed) }
        return (read.union(zeros), read, failed)
    }

    /// Takes it down.
    public func read(_ bytes: RawSpan, at offset: UInt64) {
        state.withLock { $0.read.insert(offset..<offset + UInt64(bytes.byteCount)) }
    }

    /// Takes it down.
    public func toldZeros(_ range: Range<UInt64>) { state.withLock { $0.zeros.insert(range) } }

    /// Takes it down.
    public func failed(_ offset: UInt64, _ count: Int) {
        state.withLock { $0.failed.insert(offset..<offset + UInt64(count)) }
    }
}
