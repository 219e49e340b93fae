// SPDX-License-Identifier: Apache-2.0

/// Keeps what was used lately, within a limit of cost.
///
/// Two generations take the place of a list in order of use: when the young one is full it becomes the old one, and
/// what was not asked for since is dropped with the next change. Every operation takes constant time.
struct TwoGenerationCache<Key: Hashable, Value> {
    private var young: [Key: Value] = [:]
    private var old: [Key: Value] = [:]
    private var youngCost = 0
    private let maximumYoungCost: Int

    /// - Parameter maximumCost: of all values together. A single value that costs more than half is not kept.
    init(maximumCost: Int) { maximumYoungCost = maximumCost / 2 }

    /// The value for `key`, which counts as used now.
    mutating func value(for key: Key, cost: Int) -> Value? {
        if let value = young[key] { return value }
        guard let value = old.removeValue(forKey: key) else { return nil }
        insert(value, for: key, cost: cost)
        return value
    }

    mutating func insert(_ value: Value, for key: Key, cost: Int) {
        guard cost <= maximumYoungCost else { return }
        if youngCost + cost > maximumYoungCost {
            old = young
            young = [:]
            youngCost = 0
        }
        if young.updateValue(value, forKey: key) == nil { youngCost += cost }
    }

    /// Takes out a value that is out of date.
    mutating func removeValue(for key: Key, cost: Int) {
        if young.removeValue(forKey: key) != nil { youngCost -= cost }
        old.removeValue(forKey: key)
    }

    /// Takes out all values that are out of date.
    mutating func removeAll(cost: (Key, Value) -> Int, where isOutOfDate: (Key) -> Bool) {
        for (key, value) in young where isOutOfDate(key) { removeValue(for: key, cost: cost(key, value)) }
        for key in old.keys where isOutOfDate(key) { old.removeValue(forKey: key) }
    }
}
