// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The new files of one migration: when it ends, all of them have their names, or none is left.
final class NewFiles: Sendable {
    private struct State {
        var files: [NewFile] = []
        /// None is made any more.
        var isOver = false
    }

    private let state = Locked(State())

    /// Makes one.
    /// - Throws: ``Failure``, also when all is over.
    func make(_ path: String, replacesPartial: Bool) throws(Failure) -> NewFile {
        try state.withLock { (state) throws(Failure) in
            guard !state.isOver else { throw Failure(.internalError, "\(path): interrupted") }
            let file = try NewFile(path, replacesPartial: replacesPartial)
            state.files.append(file)
            return file
        }
    }

    /// Removes all of them, and sees to it that there are none later.
    func end() {
        state.withLock { state in
            for file in state.files.reversed() { file.remove() }
            state.files = []
            state.isOver = true
        }
    }
}
