// SPDX-License-Identifier: Apache-2.0

import Dispatch
import SystemPackage

/// Accepts clients of one listening socket and hands them on.
///
/// Everything happens on the listener's queue.
final class Listener: @unchecked Sendable {
    private let socket: ListeningSocket
    private let accepted: @Sendable (FileDescriptor) -> Void
    private let queue = DispatchQueue(label: "nbdecrypt.listener")
    private let source: any DispatchSourceRead
    /// Clients accepted in a row before other work of the queue has its turn.
    private static let burst = 64

    /// Starts at once. `accepted` gets a non-blocking descriptor and its ownership, on the listener's queue.
    init(_ socket: ListeningSocket, accepted: @escaping @Sendable (FileDescriptor) -> Void) {
        self.socket = socket
        self.accepted = accepted
        self.source = DispatchSource.makeReadSource(fileDescriptor: socket.descriptor.rawValue, queue: queue)
        source.setEventHandler { [unowned self] in acceptBurst() }
        source.setCancelHandler { socket.close() }
        source.resume()
    }

    /// Stops accepting and closes the socket.
    func stop() { queue.async { self.source.cancel() } }

    private func acceptBurst() {
        for _ in 0..<Self.burst {
            do {
                accepted(try socket.accept())
            } catch .wouldBlock {
                return
            } catch .connectionAbort, .interrupted {
                continue
            } catch {
                // The system is short of descriptors or memory. The client stays in the queue and the source would
                // fire again at once: give others time to go.
                source.suspend()
                queue.asyncAfter(deadline: .now() + .milliseconds(100)) { self.source.resume() }
                return
            }
        }
    }
}
