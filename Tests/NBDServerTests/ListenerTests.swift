// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import NBDServer

/// What a listener does when the process has no descriptor for the next client.
@Suite struct ListenerTests {
    private let path = "/tmp/nbdecrypt-listener-\(UInt64.random(in: 0 ... .max))"

    /// A client that has connected to `path`, and waits at most a minute.
    private func client() throws -> FileDescriptor {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var patience = timeval(tv_sec: 60, tv_usec: 0)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        let result = unsafe withUnsafePointer(to: &address) { address in
            unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe connect(descriptor, address, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(result == 0)
        return FileDescriptor(rawValue: descriptor)
    }

    /// Gives the next client but for every second time, when there is no descriptor for it.
    private func shortAccept(_ socket: ListeningSocket) -> @Sendable () -> Result<FileDescriptor, Errno> {
        let calls = Locker(0)
        return {
            let isShort = calls.value.withLock { calls in
                calls += 1
                return calls % 2 == 1
            }
            return isShort ? .failure(.tooManyOpenFiles) : socket.accept()
        }
    }

    private final class Locker: Sendable {
        let value: Mutex<Int>
        init(_ value: Int) { self.value = Mutex(value) }
    }

    @Test func `a client for which another one makes room is served`() throws {
        let socket = try ListeningSocket(unixPath: path)
        let asked = Locker(0)
        let listener = Listener(socket, accept: shortAccept(socket)) {
            asked.value.withLock { $0 += 1 }
            return true
        } accepted: { descriptor in
            _ = try? descriptor.writeAll([42])
            try? descriptor.close()
        }
        defer {
            listener.stop()
            socket.unlink()
        }
        for count in 1...3 {
            let client = try client()
            var byte: UInt8 = 0
            #expect(unsafe recv(client.rawValue, &byte, 1, 0) == 1)
            #expect(byte == 42)
            #expect(asked.value.withLock { $0 } == count)
            try client.close()
        }
    }

    @Test func `a client for which nobody makes room is seen off at once`() throws {
        let socket = try ListeningSocket(unixPath: path)
        let listener = Listener(socket, accept: shortAccept(socket)) {
            false
        } accepted: { descriptor in
            Issue.record("nobody made room")
            try? descriptor.close()
        }
        defer {
            listener.stop()
            socket.unlink()
        }
        for _ in 0..<3 {
            let client = try client()
            var byte: UInt8 = 0
            #expect(unsafe recv(client.rawValue, &byte, 1, 0) == 0)
            try client.close()
        }
    }
}
