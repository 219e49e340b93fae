// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import Testing

@testable import NBDServer

@Suite struct PeerTests {
    @Test func `a client of a Unix socket is its process`() throws {
        var pair: [Int32] = [-1, -1]
        try #require(unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        defer { for number in pair { close(number) } }
        #expect(Peer(of: FileDescriptor(rawValue: pair[0])) == .process(getpid(), user: getuid()))
    }

    @Test func `a client of TCP is its address, whatever the port`() throws {
        let listening = try ListeningSocket.tcp(host: "127.0.0.1", port: 0)
        defer { for socket in listening { socket.close() } }
        let (first, second) = (try connect(listening[0]), try connect(listening[0]))
        #expect(first.peer == .network(0x7F00_0001))
        #expect(second.peer == first.peer)
        first.close()
        second.close()
    }

    @Test func `a client of TCP that has vanished is found out in minutes`() throws {
        let listening = try ListeningSocket.tcp(host: "127.0.0.1", port: 0)
        defer { for socket in listening { socket.close() } }
        let socket = try connect(listening[0])
        defer { socket.close() }
        func option(_ level: Int32, _ name: Int32) -> Int32 {
            var value: Int32 = 0
            var length = socklen_t(MemoryLayout<Int32>.size)
            unsafe getsockopt(socket.descriptor.rawValue, level, name, &value, &length)
            return value
        }
        let tcp = Int32(IPPROTO_TCP)
        #expect(option(SOL_SOCKET, SO_KEEPALIVE) == 1)
        #expect(option(tcp, TCP_KEEPIDLE) == 60)
        #expect(option(tcp, TCP_KEEPINTVL) == 15)
        #expect(option(tcp, TCP_KEEPCNT) == 4)
        #expect(option(tcp, TCP_USER_TIMEOUT) == 200_000)
    }

    @Test func `addresses of IPv6 are one peer by their first half`() {
        let host: [UInt8] = [0x20, 1, 0xD, 0xB8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]
        let neighbour = Array(host.prefix(15)) + [9]
        let other: [UInt8] = Array(host.prefix(7)) + [5] + host.suffix(8)
        #expect(Peer.network(IPv6: host) == Peer.network(IPv6: neighbour))
        #expect(Peer.network(IPv6: host) != Peer.network(IPv6: other))
        let linkLocal: [UInt8] = [0xFE, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
        #expect(Peer.network(IPv6: linkLocal) != Peer.network(IPv6: Array(linkLocal.prefix(15)) + [9]))
        let mapped = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF, 192, 0, 2, 1]
        #expect(Peer.network(IPv6: mapped) == Peer.network(IPv4: [192, 0, 2, 1]))
    }

    /// The server's end of a connection whose other end is left to the process.
    private func connect(_ listening: ListeningSocket) throws -> Socket {
        guard case .tcp(_, let port, _) = listening.address else { throw Errno.invalidArgument }
        try listening.listen()
        let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = unsafe withUnsafePointer(to: &address) { address in
            unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe Glibc.connect(client, address, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(result == 0)
        return Socket(accepted: try listening.accept().get())
    }
}
