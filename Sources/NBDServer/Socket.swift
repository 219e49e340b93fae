// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import CLinux
import Glibc
import SystemPackage

/// A connected stream socket that never waits. Closing it is the owner's duty, once nothing watches it any more.
struct Socket: Sendable {
    let descriptor: FileDescriptor

    /// What a call has done.
    enum Progress: Equatable {
        /// This many bytes, at least one.
        case bytes(Int)
        /// Nothing: it would have had to wait.
        case wouldBlock
        /// The other side has gone.
        case closed
    }

    /// Takes over an accepted, non-blocking descriptor.
    init(accepted descriptor: FileDescriptor) {
        self.descriptor = descriptor
        // A large buffer lets the server run ahead while the client copies. The system caps what is asked for.
        if SocketAddress(of: descriptor).isUnix {
            setOption(SOL_SOCKET, SO_SNDBUF, 2 << 20)
        } else {
            setOption(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
            setOption(SOL_SOCKET, SO_KEEPALIVE, 1)
            setOption(Int32(IPPROTO_TCP), TCP_KEEPIDLE, Self.keepaliveIdle)
            setOption(Int32(IPPROTO_TCP), TCP_KEEPINTVL, Self.keepaliveInterval)
            setOption(Int32(IPPROTO_TCP), TCP_KEEPCNT, Self.keepaliveCount)
            setOption(Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, Self.answerTimeout)
        }
    }

    /// A peer at the other end of TCP that is not heard of is asked whether it is there, first after so many seconds, then so
    /// often in a row, so many seconds apart: one whose machine has gone is known to have gone after minutes.
    static let keepaliveIdle: Int32 = 60
    static let keepaliveInterval: Int32 = 15
    static let keepaliveCount: Int32 = 4
    /// What was sent must be acknowledged within so many milliseconds. A little more than what a client has that takes nothing
    /// (``ServerLimits/stall``), so that the reason for its end is told.
    static let answerTimeout: Int32 = 200_000

    private func setOption(_ level: Int32, _ name: Int32, _ value: Int32) {
        var value = value
        unsafe setsockopt(descriptor.rawValue, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    /// Receives into the start of `buffer`.
    func receive(into buffer: inout MutableRawSpan) -> Progress {
        unsafe buffer.withUnsafeMutableBytes { bytes in
            progress(unsafe recv(descriptor.rawValue, bytes.baseAddress, bytes.count, 0))
        }
    }

    /// Sends from the start of `bytes`.
    func send(_ bytes: RawSpan) -> Progress {
        unsafe bytes.withUnsafeBytes { bytes in
            progress(unsafe Glibc.send(descriptor.rawValue, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)))
        }
    }

    private func progress(_ result: Int) -> Progress {
        if result > 0 { return .bytes(result) }
        if result == 0 { return .closed }
        return [EAGAIN, EWOULDBLOCK, EINTR].contains(errno) ? .wouldBlock : .closed
    }

    /// Tells the other side that nothing more will come; it can still be heard.
    func endSending() { _ = shutdown(descriptor.rawValue, Int32(SHUT_WR)) }

    /// How many bytes of what was sent the other side has not taken yet, as far as the system knows.
    var unsentCount: Int {
        var count: Int32 = 0
        return unsafe ioctl(descriptor.rawValue, UInt(TIOCOUTQ), &count) == 0 ? Int(count) : 0
    }

    /// How many bytes can be received.
    var receivableCount: Int {
        var count: Int32 = 0
        return unsafe ioctl(descriptor.rawValue, UInt(FIONREAD), &count) == 0 ? Int(count) : 0
    }

    /// Who is at the other end.
    var peer: Peer { Peer(of: descriptor) }

    /// Has the other side said that nothing more will come, whatever is left to be received?
    var hasHungUp: Bool {
        linux_has_hung_up(descriptor.rawValue)
    }

    /// Ends the conversation in both directions; the descriptor stays.
    func endBoth() { _ = shutdown(descriptor.rawValue, Int32(SHUT_RDWR)) }

    func close() { try? descriptor.close() }
}
