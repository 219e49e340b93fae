// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import BlockIO

@Suite struct FlushGateTests {
    private static let failure = BlockError.inputOutput("file: flushing: Input/output error")

    /// Flushes on a thread of its own; what became of it is told when asked for.
    private final class Flush: Sendable {
        private let outcome = Mutex<BlockError?>(nil)
        private let end = DispatchSemaphore(value: 0)

        init(_ gate: FlushGate) {
            DispatchQueue(label: "flush").async { [self] in
                do throws(BlockError) { try gate.pass() } catch { outcome.withLock { $0 = error } }
                end.signal()
            }
        }

        var error: BlockError? {
            end.wait()
            return outcome.withLock { $0 }
        }
    }

    /// A file whose first flush waits until the test lets it end, and fails or not; later ones succeed at once.
    private final class File: Sendable {
        private let calls = Atomic(0)
        private let running = Atomic(0)
        private let isRunning = DispatchSemaphore(value: 0)
        private let mayEnd = DispatchSemaphore(value: 0)
        private let failure: BlockError?

        init(failure: BlockError?) { self.failure = failure }

        var callCount: Int { calls.load(ordering: .relaxed) }

        func flush() -> BlockError? {
            #expect(running.add(1, ordering: .relaxed).newValue == 1)
            defer { running.subtract(1, ordering: .relaxed) }
            guard calls.add(1, ordering: .relaxed).newValue == 1 else { return nil }
            isRunning.signal()
            mayEnd.wait()
            return failure
        }

        func waitForFirst() { isRunning.wait() }

        func endFirst() { mayEnd.signal() }
    }

    /// The first flush, and so many that have come to the gate while it runs.
    private func flushes(_ gate: FlushGate, _ file: File, others: Int) -> (first: Flush, others: [Flush]) {
        let first = Flush(gate)
        file.waitForFirst()
        let others = (0..<others).map { _ in Flush(gate) }
        while gate.arrivalCount < others.count + 1 { sched_yield() }
        file.endFirst()
        return (first, others)
    }

    @Test func `a failure that the system tells once is told to both of two flushes, and to all later ones`() {
        let file = File(failure: Self.failure)
        let gate = FlushGate { file.flush() }
        let (first, others) = flushes(gate, file, others: 1)
        #expect(first.error == Self.failure)
        #expect(others[0].error == Self.failure)
        for _ in 0..<3 { #expect(throws: Self.failure) { try gate.pass() } }
        // Nothing is flushed any more: a success would say nothing of what is lost.
        #expect(file.callCount == 1)
    }

    @Test func `all that come during a flush share the next one, because the first may have been too early for them`()
        throws
    {
        let file = File(failure: nil)
        let gate = FlushGate { file.flush() }
        let (first, others) = flushes(gate, file, others: 5)
        #expect(first.error == nil)
        for other in others { #expect(other.error == nil) }
        #expect(file.callCount == 2)
        try gate.pass()
        #expect(file.callCount == 3)
    }

    @Test func `a write of which nothing is taken is an error, and does not go on for ever`() {
        var places: [Int] = []
        let error = FileDevice.writeAll(10, at: 100) { done in
            places.append(done)
            switch places.count {
            case 1: return .success(4)
            case 2: return .failure(.interrupted)
            case 3: return .success(3)
            default: return .success(0)
            }
        }
        #expect(places == [0, 4, 4, 7])
        #expect(error == .inputOutput("file: writing 3 bytes at 107: none is taken"))
    }

    @Test(arguments: [
        (Errno.noSpace, BlockError.noSpace("file: writing 2 bytes at 8: No space left on device")),
        (.ioError, .inputOutput("file: writing 2 bytes at 8: Input/output error")),
    ])
    func `a write that fails says where and why`(errno: Errno, expected: BlockError) {
        #expect(FileDevice.writeAll(2, at: 8) { _ in .failure(errno) } == expected)
    }
}
