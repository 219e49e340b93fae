// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Synchronization

/// Threads for reads that wait or take long. Work goes to the workers in turn.
///
/// Each worker is a serial queue: a concurrent queue would not start a thread for work that arrives while all of its
/// threads wait.
final class WorkerPool: Sendable {
    private let queues: [DispatchQueue]
    private let next = Atomic<Int>(0)

    init(count: Int) { queues = (0..<count).map { DispatchQueue(label: "nbdecrypt.worker.\($0)") } }

    /// Runs `work` soon.
    func run(_ work: @escaping @Sendable () -> Void) {
        let index = next.wrappingAdd(1, ordering: .relaxed).newValue
        queues[Int(index.magnitude % UInt(queues.count))].async(execute: work)
    }
}
