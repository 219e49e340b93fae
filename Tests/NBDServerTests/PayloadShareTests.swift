// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import NBDServer

@Suite struct PayloadShareTests {
    private static let mebibyte = 1 << 20

    /// Takes buffers for 1 MiB until there is none.
    private func fill(_ share: PayloadShare) -> [PayloadBuffer] {
        var buffers: [PayloadBuffer] = []
        while let buffer = share.take(payload: Self.mebibyte) { buffers.append(buffer) }
        return buffers
    }

    @Test func `a client that takes what it can leaves memory to others, and these to others again`() {
        let pool = PayloadBufferPool(maximumBytes: 17 << 20)
        let greedy = PayloadShare(of: pool)
        let first = fill(greedy)
        #expect((8...12).contains(first.count))
        let second = fill(PayloadShare(of: pool))
        #expect((2...4).contains(second.count))
        #expect(PayloadShare(of: pool).take(payload: Self.mebibyte) != nil)
    }

    @Test func `one request of 16 MiB has room as a whole, and two of 4 MiB have`() {
        let pool = PayloadBufferPool(maximumBytes: 17 << 20)
        let share = PayloadShare(of: pool)
        let large = share.take(payload: 16 << 20)
        #expect(large != nil)
        large.map(share.put)
        let (one, two) = (share.take(payload: 4 << 20), share.take(payload: 4 << 20))
        #expect(one != nil && two != nil)
    }

    @Test func `a client that has nothing gets the smallest buffer, limit or not, and no second one`() throws {
        let pool = PayloadBufferPool(maximumBytes: 0)
        let share = PayloadShare(of: pool)
        #expect(share.take(payload: 1) == nil)
        let buffer = try #require(share.takeSmallest())
        #expect(share.takeSmallest() == nil)
        #expect(PayloadShare(of: pool).takeSmallest() != nil)
        share.put(buffer)
        #expect(share.takeSmallest() != nil)
    }

    @Test func `memory that is given back is there again, and a refusal is counted`() {
        let pool = PayloadBufferPool(maximumBytes: 4 << 20)
        let share = PayloadShare(of: pool)
        let refusals = pool.refusalCount
        let buffers = fill(share)
        #expect(pool.refusalCount == refusals + 1)
        for buffer in buffers { share.put(buffer) }
        #expect(fill(share).count == buffers.count)
    }
}
