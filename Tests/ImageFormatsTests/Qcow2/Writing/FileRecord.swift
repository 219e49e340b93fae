// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The sequence of what is done to files that belong together, one of which fails once where a test wants it.
final class FileRecord: Sendable {
    /// A change, and the number of the file, in the order in which the files were made.
    struct Change {
        let file: Int
        let event: RecordedFile.Event
    }

    private struct State {
        var fileCount = 0
        var changes: [Change] = []
        var isRecording = false
        var callCount = 0
        var failure: (call: Int, error: BlockError)?
    }

    private let state = Locked(State())

    /// The changes since ``start()``.
    var changes: [Change] { state.withLock { $0.changes } }
    /// Reads, changes and flushes so far.
    var callCount: Int { state.withLock { $0.callCount } }

    /// Keeps the changes from now on.
    func start() { state.withLock { $0.isRecording = true } }

    /// The call with this number fails, and does nothing.
    func fail(call: Int, _ error: BlockError) { state.withLock { $0.failure = (call, error) } }

    /// - Returns: the number of a new file.
    func addFile() -> Int {
        state.withLock { state in
            defer { state.fileCount += 1 }
            return state.fileCount
        }
    }

    /// - Throws: what has been asked for.
    func call() throws(BlockError) {
        let error: BlockError? = state.withLock { state in
            state.callCount += 1
            guard let failure = state.failure, failure.call == state.callCount else { return nil }
            return failure.error
        }
        if let error { throw error }
    }

    /// Keeps a change.
    func add(_ event: RecordedFile.Event, of file: Int) {
        state.withLock { if $0.isRecording { $0.changes.append(Change(file: file, event: event)) } }
    }
}
