// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Glibc
import NBDServer
import SystemPackage
import TestSupport
import Testing

/// A client that says exactly what a test wants, over one end of a socket pair. Waits at most a minute.
final class WireClient {
    private let descriptor: FileDescriptor
    private var isClosed = false

    /// Connects to `server`.
    init(_ server: Server) throws {
        var pair: [Int32] = [-1, -1]
        try #require(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        descriptor = FileDescriptor(rawValue: pair[0])
        _ = fcntl(pair[1], F_SETFL, O_NONBLOCK)
        var patience = timeval(tv_sec: 60, tv_usec: 0)
        unsafe setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        unsafe setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        server.admit(FileDescriptor(rawValue: pair[1]))
    }

    deinit { close() }

    func close() {
        if !isClosed { try? descriptor.close() }
        isClosed = true
    }

    /// Sends all of it. A server that has hung up is no error here.
    func send(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { bytes in
                unsafe Glibc.send(descriptor.rawValue, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return }
            rest.removeFirst(count)
        }
    }

    /// The next `count` bytes; fewer when the server has hung up.
    func receive(_ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var filled = 0
        while filled < count {
            let got = unsafe bytes.withUnsafeMutableBytes { bytes in
                unsafe bytes.baseAddress.map { unsafe recv(descriptor.rawValue, $0 + filled, count - filled, 0) } ?? 0
            }
            if got < 0, errno == EAGAIN { throw Problem.timeout }
            guard got > 0 else { break }
            filled += got
        }
        bytes.removeLast(count - filled)
        return bytes
    }

    /// Negotiates and chooses the default export.
    func negotiate() throws {
        try greet()
        send(WireOption.encoded(1))
        try #require(try receive(10).count == 10)
    }

    /// A request without extended headers.
    func request(
        _ type: UInt16, cookie: UInt64, offset: UInt64 = 0, length: UInt32 = 0, flags: UInt16 = 0
    ) -> [UInt8] {
        WireRequest(type: type, flags: flags, cookie: cookie, offset: offset, length: UInt64(length)).encoded(.simple)
    }

    /// The head of the next reply.
    func reply() throws -> (error: UInt32, cookie: UInt64) {
        var reader = ByteReader(try receive(16))
        guard reader.integer(UInt32.self) == 0x6744_6698, let error = reader.integer(UInt32.self),
            let cookie = reader.integer(UInt64.self)
        else { throw Problem.notAReply }
        return (error, cookie)
    }

    /// Has the server hung up, with nothing more to say?
    func isEnded() throws -> Bool { try receive(1).isEmpty }

    enum Problem: Error { case timeout, notAReply }
}
