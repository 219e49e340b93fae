// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import SystemPackage

/// An epoll(7) descriptor: tells which of many sockets are ready. One caller at a time; closing it is the owner's duty.
struct Epoll {
    let descriptor: FileDescriptor
    /// What ``take()`` has found.
    private(set) var ready = [linux_ready](repeating: linux_ready(), count: 64)

    /// - Throws: `Errno` when the system has no descriptor left.
    init() throws(Errno) {
        let descriptor = linux_epoll_create()
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        self.descriptor = FileDescriptor(rawValue: descriptor)
    }

    /// Says what to tell of a socket from now on, as long as it is so; a hang-up is told always.
    /// - Parameter isNew: the socket is not known yet.
    /// - Returns: false when the system has no room for it.
    func watch(_ socket: FileDescriptor, isNew: Bool, reading: Bool, writing: Bool) -> Bool {
        linux_epoll_watch(descriptor.rawValue, socket.rawValue, isNew, reading, writing) == 0
    }

    /// Is there something that ``take()`` would find on this descriptor? Any thread may ask; nothing is taken.
    static func hasEvents(_ descriptor: FileDescriptor) -> Bool {
        var event = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&event, 1, 0) > 0
    }

    /// Tells nothing more of a socket.
    func forget(_ socket: FileDescriptor) { _ = linux_epoll_forget(descriptor.rawValue, socket.rawValue) }

    /// Finds the sockets that are ready, without waiting for any, and puts them at the start of ``ready``.
    /// - Returns: how many there are; those that had no room are found the next time.
    mutating func take() -> Int {
        let descriptor = descriptor.rawValue
        return unsafe ready.withUnsafeMutableBufferPointer { ready in
            unsafe Int(linux_epoll_take(descriptor, ready.baseAddress, Int32(ready.count)))
        }
    }
}
