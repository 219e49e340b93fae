// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import SystemPackage

/// Who is at the other end of a connection. However many connections a peer has, their work shares its turns.
enum Peer: Hashable, Sendable {
    /// The process that has connected to a Unix socket, and its user. (One that this machine does not show, as the host's
    /// from a container, has the number 0.)
    case process(Int32, user: UInt32)
    /// An address of IPv4, or the first half of one of IPv6, of which a machine has as many as it likes; of those that
    /// hold on one link only, the second half.
    case network(UInt64)
    /// A virtual machine or the host, by its number (vsock(7)).
    case machine(UInt32)
    /// Nobody knows.
    case other

    /// The peer of a connected socket.
    init(of descriptor: FileDescriptor) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        self = unsafe withUnsafeMutablePointer(to: &storage) { storage in
            unsafe storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                guard unsafe getpeername(descriptor.rawValue, address, &length) == 0 else { return .other }
                let bytes = unsafe UnsafeRawBufferPointer(start: address, count: MemoryLayout<sockaddr_storage>.size)
                switch unsafe Int32(address.pointee.sa_family) {
                case AF_UNIX: return Self.process(descriptor)
                case AF_INET: return unsafe Self.network(IPv4: Array(bytes[4..<8]))
                case AF_INET6: return unsafe Self.network(IPv6: Array(bytes[8..<24]))
                case AF_VSOCK: return .machine(linux_vsock_peer(descriptor.rawValue))
                default: return .other
                }
            }
        }
    }

    private static func process(_ descriptor: FileDescriptor) -> Peer {
        var process: Int32 = 0
        var user: UInt32 = 0
        guard unsafe linux_peer_process(descriptor.rawValue, &process, &user) == 0 else { return .other }
        return .process(process, user: user)
    }

    /// - Parameter bytes: four of them.
    static func network(IPv4 bytes: [UInt8]) -> Peer { .network(number(bytes)) }

    /// - Parameter bytes: sixteen of them.
    static func network(IPv6 bytes: [UInt8]) -> Peer {
        // An address of IPv4, on a socket for both.
        if bytes.starts(with: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]) {
            return network(IPv4: Array(bytes.suffix(4)))
        }
        let isOfOneLink = bytes.starts(with: [0xFE, 0x80])
        return .network(number(isOfOneLink ? bytes.suffix(8) : bytes.prefix(8)))
    }

    private static func number(_ bytes: some Sequence<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
}
