// SPDX-License-Identifier: Apache-2.0

import Dispatch
import SystemPackage

/// What a loop is to tell of a connection's socket, and when its time is up; closes the socket at the end.
///
/// Everything happens on the queue of the connection's loop.
final class SocketWatch: @unchecked Sendable {
    private let socket: Socket
    private let loop: EventLoop
    /// Who is told; nil after ``cancel()``.
    private(set) var handler: (any SocketHandler)?
    private var deadline: (any DispatchSourceTimer)?
    /// Is the reader told when there is something to receive?
    private(set) var isReading = false
    private(set) var isWriting = false

    /// - Parameter handler: called while ``watch(reading:writing:)`` wants it. The watch holds on to it until it is cancelled.
    init(_ socket: Socket, loop: EventLoop, handler: any SocketHandler) {
        self.socket = socket
        self.loop = loop
        self.handler = handler
    }

    /// Says what to tell from now on: as long as it is so, not only when it becomes so.
    /// - Returns: true when reading has begun anew.
    func watch(reading: Bool, writing: Bool) -> Bool {
        guard handler != nil, reading != isReading || writing != isWriting else { return false }
        let begins = reading && !isReading
        (isReading, isWriting) = (reading, writing)
        if !reading, !writing {
            loop.forget(socket.descriptor)
        } else if !loop.watch(socket.descriptor, self, reading: reading, writing: writing) {
            // Whoever asked is in the middle of something.
            loop.run { [self] in handler?.lost() }
        }
        return begins
    }

    /// Does `action` after a while, in place of what was to be done before; nil, or `never`, for nothing.
    func setDeadline(_ interval: DispatchTimeInterval, _ action: (@Sendable () -> Void)?) {
        deadline?.cancel()
        deadline = nil
        guard let action, interval != .never else { return }
        let timer = DispatchSource.makeTimerSource(queue: loop.queue)
        timer.setEventHandler(handler: action)
        timer.schedule(deadline: .now() + interval)
        timer.resume()
        deadline = timer
    }

    /// Tells nothing more, and closes the socket.
    func cancel() {
        guard handler != nil else { return }
        setDeadline(.never, nil)
        loop.forget(socket.descriptor)
        socket.close()
        handler = nil
        (isReading, isWriting) = (false, false)
    }
}
