// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Synchronization
import Testing

@Suite struct BudgetTests {
    @Test func `so many look-ups are allowed, and no more`() {
        let budget = Budget(looks: 3)
        #expect((0..<5).map { _ in budget.look() } == [true, true, true, false, false])
        budget.refill(1)
        #expect((0..<2).map { _ in budget.look() } == [true, false])
    }

    @Test func `what nobody wants any more is not looked up`() {
        let isAbandoned = Atomic(false)
        let budget = Budget(looks: 100) { isAbandoned.load(ordering: .relaxed) }
        #expect(budget.look())
        isAbandoned.store(true, ordering: .relaxed)
        #expect(!budget.look())
    }

    @Test func `after the deadline nothing is looked up`() {
        #expect(!Budget(looks: 100, until: .now - .seconds(1)).look())
        #expect(Budget(looks: 100, until: .now + .seconds(1000)).look())
    }
}
