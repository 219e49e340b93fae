// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import NBDServer

/// Takes one client on a port of this machine, on a thread of its own: says one line back to it, then goodbye.
final class TLSEchoServer: Sendable {
    /// What has become of the client.
    struct Outcome {
        var handshake = TLSSession.Handshake.wantsRead
        var peerName: String?
        var parameters: String?
        /// What it has said.
        var line = ""
    }

    let port: UInt16
    private let listener: FileDescriptor
    private let outcome = Mutex(Outcome())
    private let ended = DispatchSemaphore(value: 0)

    init(_ context: TLSContext) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        try #require(descriptor >= 0)
        listener = FileDescriptor(rawValue: descriptor)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = unsafe withUnsafeMutablePointer(to: &address) { address in
            unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe bind(descriptor, address, length) == 0 && listen(descriptor, 1) == 0
                    && getsockname(descriptor, address, &length) == 0
            }
        }
        try #require(isBound)
        port = UInt16(bigEndian: address.sin_port)
        Thread.detachNewThread { [self] in
            serve(context)
            ended.signal()
        }
    }

    /// Waits for the end of the client, a minute at most.
    func end() throws -> Outcome {
        try #require(ended.wait(timeout: .now() + 60) == .success)
        return outcome.withLock { $0 }
    }

    private func serve(_ context: TLSContext) {
        defer { try? listener.close() }
        guard wait(listener, POLLIN) else { return }
        let descriptor = accept(listener.rawValue, nil, nil)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        let socket = Socket(accepted: FileDescriptor(rawValue: descriptor))
        defer { socket.close() }
        guard let session = try? TLSSession(context, socket: socket) else { return }
        var handshake = session.handshake()
        while handshake == .wantsRead || handshake == .wantsWrite {
            guard wait(socket.descriptor, handshake == .wantsRead ? POLLIN : POLLOUT) else { break }
            handshake = session.handshake()
        }
        outcome.withLock { outcome in
            outcome.handshake = handshake
            outcome.peerName = session.peerName
            outcome.parameters = session.parameters
        }
        var line: [UInt8] = []
        if handshake == .done {
            line = readLine(session)
            _ = line.withBytes { session.send($0) }
            outcome.withLock { $0.line = String(decoding: line, as: UTF8.self) }
        }
        session.endSending()
        // The client is heard out, so that what was said to it arrives.
        while receive(session) != nil {}
    }

    private func readLine(_ session: TLSSession) -> [UInt8] {
        var line: [UInt8] = []
        while line.last != UInt8(ascii: "\n"), let piece = receive(session) { line += piece }
        return line
    }

    /// nil: the client has gone.
    private func receive(_ session: TLSSession) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 1000)
        while true {
            switch buffer.withMutableBytes({ session.receive(into: &$0) }) {
            case .bytes(let count): return Array(buffer[..<count])
            case .closed: return nil
            case .wouldBlock: guard wait(session.socket.descriptor, POLLIN) else { return nil }
            }
        }
    }

    private func wait(_ descriptor: FileDescriptor, _ events: Int32) -> Bool {
        var entry = pollfd(fd: descriptor.rawValue, events: Int16(events), revents: 0)
        return unsafe poll(&entry, 1, 60_000) == 1
    }
}
