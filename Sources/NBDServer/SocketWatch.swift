// SPDX-License-Identifier: Apache-2.0

import Dispatch
import SystemPackage

/// Tells a connection when its socket can be read or written, and when its time is up; closes the socket at the end.
///
/// Everything happens on the queue of the connection's loop, which it is given to.
final class SocketWatch: @unchecked Sendable {
    private let queue: DispatchQueue
    private let readSource: any DispatchSourceRead
    private let writeSource: any DispatchSourceWrite
    private var deadline: (any DispatchSourceTimer)?
    /// Is the reader told when there is something to receive?
    private(set) var isReading = false
    private var isWriting = false

    /// - Parameters:
    ///   - readable, writable: called while ``watch(reading:writing:)`` wants it. The watch holds on to them, and what they
    ///     hold on to, until it is cancelled.
    init(
        _ socket: Socket, queue: DispatchQueue, readable: @escaping @Sendable () -> Void,
        writable: @escaping @Sendable () -> Void
    ) {
        self.queue = queue
        readSource = DispatchSource.makeReadSource(fileDescriptor: socket.descriptor.rawValue, queue: queue)
        writeSource = DispatchSource.makeWriteSource(fileDescriptor: socket.descriptor.rawValue, queue: queue)
        readSource.setEventHandler(handler: readable)
        writeSource.setEventHandler(handler: writable)
        // The descriptor may be closed when neither source watches it any more.
        let group = DispatchGroup()
        group.enter()
        group.enter()
        readSource.setCancelHandler { group.leave() }
        writeSource.setCancelHandler { group.leave() }
        group.notify(queue: queue) { socket.close() }
    }

    /// Says what to tell from now on.
    /// - Returns: true when reading has begun anew: a hang-up may have been told while nobody listened.
    func watch(reading: Bool, writing: Bool) -> Bool {
        let begins = reading && !isReading
        if reading != isReading {
            isReading = reading
            if reading { readSource.resume() } else { readSource.suspend() }
        }
        if writing != isWriting {
            isWriting = writing
            if writing { writeSource.resume() } else { writeSource.suspend() }
        }
        return begins
    }

    /// Does `action` after a while, in place of what was to be done before; nil for nothing.
    func setDeadline(_ interval: DispatchTimeInterval, _ action: (@Sendable () -> Void)?) {
        deadline?.cancel()
        deadline = nil
        guard let action else { return }
        let timer = DispatchSource.makeTimerSource(queue: queue)
        timer.setEventHandler(handler: action)
        timer.schedule(deadline: .now() + interval)
        timer.resume()
        deadline = timer
    }

    /// Tells nothing more, and closes the socket soon.
    func cancel() {
        setDeadline(.never, nil)
        // A suspended source would never be cancelled.
        if !isReading { readSource.resume() }
        if !isWriting { writeSource.resume() }
        isReading = false
        readSource.cancel()
        writeSource.cancel()
    }
}
