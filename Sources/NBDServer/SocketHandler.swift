// SPDX-License-Identifier: Apache-2.0

/// Whose socket an ``EventLoop`` watches. Called on the queue of the loop.
protocol SocketHandler: AnyObject, Sendable {
    /// There is something to receive, or the other side has gone.
    /// - Parameter scratch: memory to receive into, for the time of the call.
    func readable(_ scratch: ScratchMemory)
    /// There is room for more to be sent, or the other side has gone.
    func writable()
    /// The system cannot watch the socket.
    func lost()
}

/// Memory of a loop that its connections receive into, one after the other: an idle one needs none of its own.
final class ScratchMemory {
    /// What was received last is at its start.
    var bytes = [UInt8](repeating: 0, count: 64 << 10)
}
