// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch

/// A serial queue that serves many connections, and the memory that they receive into.
///
/// Everything a connection does, but for what its workers read, happens on its loop's queue.
final class EventLoop: @unchecked Sendable {
    let queue: DispatchQueue
    private var scratch = [UInt8](repeating: 0, count: 64 << 10)

    init(index: Int) { queue = DispatchQueue(label: "nbdecrypt.loop.\(index)") }

    /// Receives once from `stream` and appends what came to `input`. Called on the queue.
    func receive(from stream: any ByteStream, appendingTo input: inout ReceivedBytes) -> Socket.Progress {
        dispatchPrecondition(condition: .onQueue(queue))
        let progress = scratch.withMutableBytes { stream.receive(into: &$0) }
        if case .bytes(let count) = progress { input.append(scratch[..<count]) }
        return progress
    }
}
