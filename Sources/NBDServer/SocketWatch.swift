// SPDX-License-Identifier: Apache-2.0

import Dispatch
import SystemPackage

/// Tells a connection when its socket can be read or written, and when its time is up; closes the socket at the end.
///
/// Everything happens on the queue of the connection's loop.
final class SocketWatch: @unchecked Sendable {
    private let socket: Socket
    private let loop: EventLoop
    private var readable: (() -> Void)?
    private var writable: (() -> Void)?
    private var lost: (() -> Void)?
    private var deadline: (any DispatchSourceTimer)?
    /// Is the reader told when there is something to receive?
    private(set) var isReading = false
    private(set) var isWriting = false

    /// - Parameters:
    ///   - readable, writable: called while ``watch(reading:writing:)`` wants it. The watch holds on to them, and what they
    ///     hold on to, until it is cancelled.
    ///   - lost: called when the system cannot watch the socket.
    init(
        _ socket: Socket, loop: EventLoop, readable: @escaping () -> Void, writable: @escaping () -> Void,
        lost: @escaping () -> Void
    ) {
        self.socket = socket
        self.loop = loop
        self.readable = readable
        self.writable = writable
        self.lost = lost
    }

    /// Says what to tell from now on: as long as it is so, not only when it becomes so.
    /// - Returns: true when reading has begun anew.
    func watch(reading: Bool, writing: Bool) -> Bool {
        guard readable != nil, reading != isReading || writing != isWriting else { return false }
        let begins = reading && !isReading
        (isReading, isWriting) = (reading, writing)
        if !reading, !writing {
            loop.forget(socket.descriptor)
        } else if !loop.watch(socket.descriptor, self, reading: reading, writing: writing) {
            // Whoever asked is in the middle of something.
            loop.run { [self] in lost?() }
        }
        return begins
    }

    /// Called by the loop. A hang-up counts as both.
    func isReady(reading: Bool, writing: Bool) {
        if reading, isReading { readable?() }
        if writing, isWriting { writable?() }
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
        guard readable != nil else { return }
        setDeadline(.never, nil)
        loop.forget(socket.descriptor)
        socket.close()
        (readable, writable, lost) = (nil, nil, nil)
        (isReading, isWriting) = (false, false)
    }
}
