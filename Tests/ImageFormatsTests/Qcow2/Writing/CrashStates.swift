// SPDX-License-Identifier: Apache-2.0

import TestSupport

/// The contents that files can have when the power fails: of each, what was flushed, and any sectors of what was not.
struct CrashStates {
    /// What the files can have.
    struct State {
        let files: [[UInt8]]
        /// After so many changes.
        let changeCount: Int
    }

    /// What is kept of what has not been flushed.
    private enum Variation: Equatable {
        case all, sectors, writes
        /// What is in one file, and nothing in the others.
        case file(Int)
    }

    private let changes: [FileRecord.Change]
    private let variations: [Variation]
    private var random: SeededGenerator
    /// What is on disk for certain.
    private var durable: [[UInt8]]
    /// What may be lost, of each file.
    private var pending: [[RecordedFile.Event]]
    private var changeCount = 0
    private var variation = 0

    /// - Parameter files: their contents before, by their numbers.
    init(_ files: [[UInt8]], _ changes: [FileRecord.Change], seed: UInt64) {
        durable = files
        pending = Array(repeating: [], count: files.count)
        self.changes = changes
        variations = [.all, .sectors, .writes] + (files.count > 1 ? files.indices.map { .file($0) } : [])
        random = SeededGenerator(seed: seed)
    }

    /// The next one: after each change, all of what has not been flushed, any sectors of it, any writes, and that of one file.
    mutating func next() -> State? {
        guard changeCount <= changes.count else { return nil }
        var files = durable
        for (file, events) in pending.enumerated() {
            for event in events {
                switch variations[variation] {
                case .all: event.apply(to: &files[file])
                case .sectors: event.apply(to: &files[file]) { Bool.random(using: &random) }
                case .writes: if Bool.random(using: &random) { event.apply(to: &files[file]) }
                case .file(let kept): if file == kept { event.apply(to: &files[file]) }
                }
            }
        }
        defer { advance() }
        return State(files: files, changeCount: changeCount)
    }

    private mutating func advance() {
        variation += 1
        guard variation == variations.count || pending.allSatisfy(\.isEmpty) else { return }
        variation = 0
        defer { changeCount += 1 }
        guard changeCount < changes.count else { return }
        let change = changes[changeCount]
        guard case .flush = change.event else { return pending[change.file].append(change.event) }
        for event in pending[change.file] { event.apply(to: &durable[change.file]) }
        pending[change.file] = []
    }
}
