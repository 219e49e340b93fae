// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Synchronization
import Testing

@testable import NBDServer

@Suite struct WorkerPoolTests {
    @Test func `clients have their turns, however much one of them wants`() {
        let pool = WorkerPool(count: 1)
        let gate = DispatchSemaphore(value: 0)
        let isBusy = DispatchSemaphore(value: 0)
        let all = DispatchGroup()
        let order = Mutex<[UInt64]>([])
        pool.run(for: 9) {
            isBusy.signal()
            gate.wait()
        }
        isBusy.wait()
        func run(_ client: UInt64) {
            all.enter()
            pool.run(for: client) {
                order.withLock { $0.append(client) }
                all.leave()
            }
        }
        for _ in 0..<5 { run(1) }
        run(2)
        run(3)
        run(2)
        gate.signal()
        all.wait()
        #expect(order.withLock { $0 } == [1, 2, 3, 1, 2, 1, 1, 1])
    }
}
