// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import NBDServer

@Suite struct ReplyShareTests {
    private static let mebibyte = 1 << 20

    /// Takes buffers for 1 MiB until there is none.
    private func fill(_ share: ReplyShare) -> [ReplyBuffer] {
        var buffers: [ReplyBuffer] = []
        while let buffer = share.take(payload: Self.mebibyte) { buffers.append(buffer) }
        return buffers
    }

    @Test func `a client that takes what it can leaves memory to others, and these to others again`() {
        let pool = ReplyBufferPool(maximumBytes: 17 << 20)
        let greedy = ReplyShare(of: pool)
        let first = fill(greedy)
        #expect((8...12).contains(first.count))
        let second = fill(ReplyShare(of: pool))
        #expect((2...4).contains(second.count))
        #expect(ReplyShare(of: pool).take(payload: Self.mebibyte) != nil)
    }

    @Test func `one request of 16 MiB has room as a whole, and two of 4 MiB have`() {
        let pool = ReplyBufferPool(maximumBytes: 17 << 20)
        let share = ReplyShare(of: pool)
        let large = share.take(payload: 16 << 20)
        #expect(large != nil)
        large.map(share.put)
        let (one, two) = (share.take(payload: 4 << 20), share.take(payload: 4 << 20))
        #expect(one != nil && two != nil)
    }

    @Test func `a client that has nothing gets the smallest buffer, limit or not, and no second one`() throws {
        let pool = ReplyBufferPool(maximumBytes: 0)
        let share = ReplyShare(of: pool)
        #expect(share.take(payload: 1) == nil)
        let buffer = try #require(share.takeSmallest())
        #expect(share.takeSmallest() == nil)
        #expect(ReplyShare(of: pool).takeSmallest() != nil)
        share.put(buffer)
        #expect(share.takeSmallest() != nil)
    }

    @Test func `memory that is given back is there again, and a refusal is counted`() {
        let pool = ReplyBufferPool(maximumBytes: 4 << 20)
        let share = ReplyShare(of: pool)
        let refusals = pool.refusalCount
        let buffers = fill(share)
        #expect(pool.refusalCount == refusals + 1)
        for buffer in buffers { share.put(buffer) }
        #expect(fill(share).count == buffers.count)
    }
}
