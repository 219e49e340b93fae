// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Foundation
import Synchronization
import Testing

@testable import NBDServer

@Suite struct LaneTests {
    /// A lane of one thread that is busy until ``release()``, and what it has done since.
    private final class Bench: Sendable {
        let lane = Lane(name: "bench", width: 1)
        private let gate = DispatchSemaphore(value: 0)
        private let all = DispatchGroup()
        private let order = Mutex<[UInt64]>([])
        private let dropped = Mutex<[UInt64]>([])

        init() {
            let isBusy = DispatchSemaphore(value: 0)
            let gate = gate
            lane.run(for: WorkOwner(peer: .other, connection: 0)) {
                isBusy.signal()
                gate.wait()
            }
            isBusy.wait()
        }

        func add(_ connection: UInt64, of process: Int32) {
            all.enter()
            lane.run(for: owner(connection, of: process)) { [self] in
                dropped.withLock { $0.append(connection) }
                all.leave()
            } _: { [self] in
                order.withLock { $0.append(connection) }
                all.leave()
            }
        }

        func owner(_ connection: UInt64, of process: Int32) -> WorkOwner {
            WorkOwner(peer: .process(process, user: 0), connection: connection)
        }

        /// Lets the worker do all that waits.
        /// - Returns: the connections whose work was done, in that order.
        func release() -> [UInt64] {
            gate.signal()
            all.wait()
            return order.withLock { $0 }
        }

        var droppedWork: [UInt64] { dropped.withLock { $0 } }
    }

    @Test func `clients have their turns, however much one of them wants`() {
        let bench = Bench()
        for _ in 0..<5 { bench.add(1, of: 1) }
        bench.add(2, of: 2)
        bench.add(3, of: 3)
        bench.add(2, of: 2)
        #expect(bench.release() == [1, 2, 3, 1, 2, 1, 1, 1])
    }

    @Test func `twenty connections of one client have as many turns as the one of another`() {
        let bench = Bench()
        for connection: UInt64 in 1...20 { for _ in 0..<2 { bench.add(connection, of: 7) } }
        for _ in 0..<3 { bench.add(100, of: 8) }
        let order = bench.release()
        #expect(Array(order.prefix(6)) == [1, 100, 2, 100, 3, 100])
        // Among themselves they have their turns, too.
        #expect(
            Array(order.dropFirst(6).prefix(18)) == [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 1])
        #expect(order.count == 43)
    }

    @Test func `work of a connection that has gone is not done, and takes nobody's turn`() {
        let bench = Bench()
        for connection: UInt64 in 1...3 { for _ in 0..<16 { bench.add(connection, of: 7) } }
        bench.add(4, of: 8)
        bench.add(5, of: 9)
        bench.lane.drop(bench.owner(1, of: 7))
        bench.lane.drop(bench.owner(3, of: 7))
        bench.lane.drop(bench.owner(4, of: 8))
        bench.lane.drop(bench.owner(99, of: 99))
        #expect(bench.release() == [2, 5] + [UInt64](repeating: 2, count: 15))
        #expect(bench.droppedWork == [UInt64](repeating: 1, count: 16) + [UInt64](repeating: 3, count: 16) + [4])
    }

    @Test func `a lane goes on after its work was dropped`() {
        let bench = Bench()
        for _ in 0..<16 { bench.add(1, of: 1) }
        bench.lane.drop(bench.owner(1, of: 1))
        #expect(bench.release() == [])
        // The worker wakes up for nothing sixteen times.
        let done = DispatchSemaphore(value: 0)
        bench.lane.run(for: bench.owner(2, of: 2)) { done.signal() }
        #expect(done.wait(timeout: .now() + 60) == .success)
    }

    @Test func `as many things are done at once as the lane is wide, and its threads go with it`() async throws {
        let gate = DispatchSemaphore(value: 0)
        let underWay = Atomic(0)
        let name = "lane \(UInt16.random(in: 0 ... .max))"
        var lane: Lane? = Lane(name: name, width: 6)
        for number: UInt64 in 0..<10 {
            lane?.run(for: WorkOwner(peer: .other, connection: number)) {
                underWay.add(1, ordering: .relaxed)
                gate.wait()
            }
        }
        try await wait { underWay.load(ordering: .relaxed) == 6 }
        #expect(try threads(named: name) == 6)
        #expect(lane?.report.waiting == 4)
        for _ in 0..<10 { gate.signal() }
        try await wait { underWay.load(ordering: .relaxed) == 10 }
        lane = nil
        try await wait { try threads(named: name) == 0 }
    }

    /// How many threads of this process have this name.
    private func threads(named name: String) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count { thread in
            let found = try? String(contentsOfFile: "/proc/self/task/\(thread)/comm", encoding: .utf8)
            return found == name + "\n"
        }
    }

    private func wait(until condition: () throws -> Bool) async throws {
        for _ in 0..<3000 {
            if try condition() { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(try condition())
    }
}
