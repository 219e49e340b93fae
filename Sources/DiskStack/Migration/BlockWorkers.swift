// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch

/// Threads that take the blocks of a disk from a queue until there are no more, or one of them fails.
struct BlockWorkers {
    /// What the buffers of all of them have at most, in bytes.
    private static let memory: UInt64 = 32 << 20

    let queue: BlockQueue
    let blocks: DiskBlocks
    /// How many requests the device likes to have under way at once.
    let depth: Int

    /// At least as many as a disk serves side by side, and at most as many as have memory.
    private var count: Int { min(max(8, depth), max(1, Int(Self.memory / blocks.blockSize)), max(1, blocks.count)) }

    /// Calls `work` for each block, with memory for its bytes, on several threads; returns when all is done.
    /// - Throws: the first error of `work`.
    func run<Failure: Error>(
        _ work: @escaping @Sendable (BlockQueue.Task, inout [UInt8]) throws(Failure) -> Void
    ) throws(Failure) {
        let failure = Locked<Failure?>(nil)
        let group = DispatchGroup()
        let room = Int(min(blocks.blockSize, blocks.diskSize))
        for _ in 0..<count {
            // One queue each: they wait for disks, which is no reason for others to wait.
            DispatchQueue(label: "nbdecrypt.copy").async(group: group) { [queue] in
                var bytes = [UInt8](repeating: 0, count: room)
                while let task = queue.next() {
                    do throws(Failure) { try work(task, &bytes) } catch {
                        failure.withLock { if $0 == nil { $0 = error } }
                        queue.stop()
                    }
                }
            }
        }
        group.wait()
        if let error = failure.withLock({ $0 }) { throw error }
    }
}
