// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import ImageFormats

@Suite struct TwoGenerationCacheTests {
    @Test func `what was used lately stays and the rest goes`() {
        var cache = TwoGenerationCache<Int, String>(maximumCost: 8)
        for key in 0..<100 {
            cache.insert("\(key)", for: key, cost: 1)
            #expect(cache.value(for: 0, cost: 1) == "0", "key 0 is used all the time")
        }
        #expect(cache.value(for: 99, cost: 1) == "99")
        #expect(cache.value(for: 50, cost: 1) == nil)
        #expect((0..<100).count { cache.value(for: $0, cost: 1) != nil } <= 8)
    }

    @Test func `a value that costs more than half is not kept`() {
        var cache = TwoGenerationCache<Int, Int>(maximumCost: 8)
        cache.insert(1, for: 1, cost: 4)
        cache.insert(2, for: 2, cost: 5)
        #expect(cache.value(for: 1, cost: 4) == 1)
        #expect(cache.value(for: 2, cost: 5) == nil)
    }

    @Test func `what is out of date goes, and makes room`() {
        var cache = TwoGenerationCache<Int, Int>(maximumCost: 8)
        for key in 0..<6 { cache.insert(key, for: key, cost: 1) }
        // Two are young now, four are old.
        cache.removeValue(for: 0, cost: 1)
        cache.removeValue(for: 5, cost: 1)
        cache.removeValue(for: 100, cost: 1)
        #expect(cache.value(for: 0, cost: 1) == nil)
        #expect(cache.value(for: 5, cost: 1) == nil)
        cache.removeAll(cost: { _, _ in 1 }) { $0 >= 3 }
        #expect(cache.value(for: 4, cost: 1) == nil)
        #expect(cache.value(for: 3, cost: 1) == nil)
        // There is room for four without giving up the old ones.
        for key in 10..<14 { cache.insert(key, for: key, cost: 1) }
        #expect(cache.value(for: 1, cost: 1) == 1)
    }
}
