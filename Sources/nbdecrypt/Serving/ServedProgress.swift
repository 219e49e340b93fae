// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import NBDServer

/// Makes of what clients do with an export a ``CopyProgress``, in which each byte counts once however often it is read or
/// written.
final class ServedProgress: ExportObserver {
    private struct State {
        var given: ByteSet
        var written: ByteSet
    }

    private let progress: CopyProgress
    private let state: Locked<State>

    /// - Parameter progress: of the disk of the export; nobody else adds to it.
    init(_ progress: CopyProgress) {
        self.progress = progress
        state = Locked(State(given: ByteSet(size: progress.size), written: ByteSet(size: progress.size)))
    }

    func read(_ bytes: RawSpan, at offset: UInt64) {
        add(offset..<offset + UInt64(bytes.byteCount), bytes.isZero ? .zeros : .data, \.given)
    }

    func toldZeros(_ range: Range<UInt64>) { add(range, .zeros, \.given) }

    func wrote(_ range: Range<UInt64>) { add(range, .written, \.written) }

    /// Adds what is new, of each cell of the map.
    private func add(_ range: Range<UInt64>, _ kind: CopyProgress.State, _ set: WritableKeyPath<State, ByteSet>) {
        var position = range.lowerBound
        while position < range.upperBound {
            let end = min(range.upperBound, progress.endOfCell(at: position))
            let count = state.withLock { state in
                let before = state[keyPath: set].count
                state[keyPath: set].insert(position..<end)
                return state[keyPath: set].count - before
            }
            if let new = ByteRange(offset: position, length: count), count > 0 { progress.add(new, kind) }
            position = end
        }
    }
}
