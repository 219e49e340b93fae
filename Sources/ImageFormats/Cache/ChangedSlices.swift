// SPDX-License-Identifier: Apache-2.0

/// The slices of an image's tables that are not yet as the file has them, and which of them have to be written before
/// which: a slice that points to something must not be in the file before that which it points to.
///
/// None waits for itself by way of others: ``canTake(_:after:)`` is asked before ``take(_:_:after:)``.
struct ChangedSlices {
    /// What a slice is known by.
    typealias Key = ImageCache.Key

    private struct Slice {
        var words: [UInt64]
        /// Must be in the file before. Those that are no longer changed are.
        var earlier: Set<Key>
    }

    private var slices: [Key: Slice] = [:]
    /// So many slices of an image are changed at most, 1 MiB of them.
    static let maximumCount = 256

    /// The words of a slice that has been changed.
    func words(of key: Key) -> [UInt64]? { slices[key]?.words }

    /// Is there room for a change, and can this slice be written after the others?
    func canTake(_ key: Key, after earlier: [Key]) -> Bool {
        (slices[key] != nil || slices.count < Self.maximumCount) && !waits(earlier, for: key)
    }

    /// Does one of these wait for `key`, if need be by way of others?
    private func waits(_ keys: [Key], for key: Key) -> Bool {
        guard slices[key] != nil else { return false }
        var seen = Set(keys)
        var left = keys
        while let next = left.popLast() {
            if next == key { return true }
            for other in slices[next]?.earlier ?? [] where seen.insert(other).inserted { left.append(other) }
        }
        return false
    }

    /// Replaces the words of a slice.
    mutating func take(_ key: Key, _ words: [UInt64], after earlier: [Key]) {
        let waitsFor = earlier.filter { slices[$0] != nil }
        slices[key, default: Slice(words: [], earlier: [])].words = words
        slices[key]?.earlier.formUnion(waitsFor)
    }

    /// Those that wait for no other one, in the order of their places. There are some, when there are any slices.
    var ready: [(key: Key, words: [UInt64])] {
        slices.filter { $0.value.earlier.allSatisfy { slices[$0] == nil } }
            .map { (key: $0.key, words: $0.value.words) }
            .sorted { $0.key.offset < $1.key.offset }
    }

    /// Takes out a slice that is in the file.
    /// - Returns: its words; nil when it is not there.
    mutating func remove(_ key: Key) -> [UInt64]? { slices.removeValue(forKey: key)?.words }
}
