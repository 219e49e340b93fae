// SPDX-License-Identifier: Apache-2.0

/// The slices of an image's tables that are not yet as the file has them.
///
/// They are written in steps, with a flush after each: what is referred to must be on disk before that which refers to it.
struct ChangedSlices {
    /// What a slice is known by.
    typealias Key = ImageCache.Key

    /// When a slice is written; see ``CacheShare/write(_:)``.
    enum Step: Int, CaseIterable, Comparable {
        /// What no table on disk refers to yet, and what may be on disk at any time: contents of new tables, reference counts.
        case contents
        /// Where blocks of reference counts are.
        case index
        /// What gives clusters to the disk: entries that refer to data and to tables.
        case references

        static func < (first: Step, second: Step) -> Bool { first.rawValue < second.rawValue }
    }

    private struct Slice {
        var words: [UInt64]
        var step: Step
    }

    private var slices: [Key: Slice] = [:]
    /// Of all slices, in bytes.
    private(set) var cost = 0
    /// So many bytes of slices of an image are changed at most.
    static let maximumCost = 4 << 20

    /// Is every slice as the file has it?
    var isEmpty: Bool { slices.isEmpty }

    /// The words of a slice that has been changed.
    func words(of key: Key) -> [UInt64]? { slices[key]?.words }

    /// Is there room for a change?
    func canTake(_ key: Key) -> Bool { slices[key] != nil || cost + key.count * 8 <= Self.maximumCost }

    /// Replaces the words of a slice, which is written in the later step of those that it was given.
    mutating func take(_ key: Key, _ words: [UInt64], _ step: Step) {
        if let old = slices.updateValue(Slice(words: words, step: step), forKey: key) {
            slices[key]?.step = max(old.step, step)
        } else {
            cost += key.count * 8
        }
    }

    /// Those that are written in a step, in the order of their places.
    func ready(for step: Step) -> [(key: Key, words: [UInt64])] {
        slices.filter { $0.value.step == step }
            .map { (key: $0.key, words: $0.value.words) }
            .sorted { $0.key.offset < $1.key.offset }
    }

    /// Takes out a slice that is in the file.
    /// - Returns: its words; nil when it is not there.
    mutating func remove(_ key: Key) -> [UInt64]? {
        guard let slice = slices.removeValue(forKey: key) else { return nil }
        cost -= key.count * 8
        return slice.words
    }
}
