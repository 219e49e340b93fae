// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Synchronization
import Testing

@testable import BlockIO

@Suite struct RangeLockTests {
    @Test func `ranges that do not overlap are held at the same time`() {
        let lock = RangeLock()
        lock.acquire(0..<10)
        lock.acquire(10..<20)
        lock.acquire(30..<31)
        lock.release(10..<20)
        lock.acquire(15..<30)
        #expect(lock.waiterCount == 0)
    }

    @Test func `whoever comes first gets a range first, and others do not wait for that`() {
        let lock = RangeLock()
        let order = Locked<[Int]>([])
        let ended = DispatchGroup()
        /// Starts a thread that holds a range for a moment, and waits until it has it or waits for it.
        func start(_ number: Int, _ range: Range<UInt64>, waiting: Int) {
            DispatchQueue(label: "waiter \(number)").async(group: ended) {
                lock.acquire(range)
                order.withLock { $0.append(number) }
                lock.release(range)
            }
            while lock.waiterCount < waiting {}
        }
        lock.acquire(0..<10)
        start(1, 5..<15, waiting: 1)
        // It is free, but the first one waits for a part of it.
        start(2, 10..<20, waiting: 2)
        lock.acquire(20..<30)
        #expect(order.withLock { $0 } == [])
        lock.release(0..<10)
        ended.wait()
        #expect(order.withLock { $0 } == [1, 2])
    }

    @Test func `a counter that only the lock guards loses nothing`() {
        let lock = RangeLock()
        let counters = Mutex([Int](repeating: 0, count: 4))
        DispatchQueue.concurrentPerform(iterations: 8) { number in
            for _ in 0..<500 {
                let range = UInt64(number % 4)..<UInt64(number % 4 + 1)
                lock.acquire(range)
                let value = counters.withLock { $0[number % 4] }
                counters.withLock { $0[number % 4] = value + 1 }
                lock.release(range)
            }
        }
        #expect(counters.withLock { $0 } == [1000, 1000, 1000, 1000])
    }
}
