// SPDX-License-Identifier: Apache-2.0

/// Slices of tables: those that are as the file has them, of which the ones used lately are kept, and those that have been
/// changed, all of which are kept until they are written.
struct SliceCache {
    /// What a slice is known by.
    typealias Key = ImageCache.Key

    private var clean: TwoGenerationCache<Key, [UInt64]>
    /// By the number of the image. No slice is among the clean ones, too.
    private var changed: [Int: ChangedSlices] = [:]
    /// How many changes there have been. What was read from the file before the latest one may be out of date.
    private(set) var changeCount = 0

    /// - Parameter maximumCost: of the slices that have not been changed, in bytes. A changed slice counts for
    ///   ``ChangedSlices/maximumCost`` instead.
    init(maximumCost: Int) { clean = TwoGenerationCache(maximumCost: maximumCost) }

    /// The words of a slice, if they are known.
    mutating func words(of key: Key) -> [UInt64]? {
        clean.value(for: key, cost: Self.cost(key)) ?? changed[key.owner]?.words(of: key)
    }

    /// Keeps words that were read from the file after `changeCount` changes.
    ///
    /// - Returns: the words to go by; nil when those that were read may be out of date.
    mutating func keep(_ words: [UInt64], of key: Key, readAfter changeCount: Int) -> [UInt64]? {
        if let known = self.words(of: key) { return known }
        guard changeCount == self.changeCount else { return nil }
        clean.insert(words, for: key, cost: Self.cost(key))
        return words
    }

    /// Can a slice be changed without writing something first?
    func canChange(_ key: Key) -> Bool { changed[key.owner]?.canTake(key) ?? true }

    /// Replaces the words of a slice, which ``canChange(_:)``.
    mutating func change(_ key: Key, to words: [UInt64], _ step: ChangedSlices.Step) {
        changeCount += 1
        clean.removeValue(for: key, cost: Self.cost(key))
        changed[key.owner, default: ChangedSlices()].take(key, words, step)
    }

    /// Is any slice of an image not as the file has it?
    func hasChanges(_ owner: Int) -> Bool { changed[owner].map { !$0.isEmpty } ?? false }

    /// The changed slices of an image that are written in a step, in the order of their places.
    func ready(_ owner: Int, for step: ChangedSlices.Step) -> [(key: Key, words: [UInt64])] {
        changed[owner]?.ready(for: step) ?? []
    }

    /// The file has these slices now as they are here.
    mutating func settle(_ keys: [Key]) {
        for key in keys {
            guard let words = changed[key.owner]?.remove(key) else { continue }
            clean.insert(words, for: key, cost: Self.cost(key))
        }
    }

    /// Drops the slices for which this is true, but for changed ones.
    mutating func forget(where isOutOfDate: (Key) -> Bool) {
        clean.removeAll(cost: { key, _ in Self.cost(key) }, where: isOutOfDate)
    }

    private static func cost(_ key: Key) -> Int { key.count * 8 }
}
