// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

/// Where a listening socket can be reached.
public enum SocketAddress: Equatable, Sendable {
    case unix(path: String)
    /// `host` is a numeric address.
    case tcp(host: String, port: UInt16, isLoopback: Bool)
    case other

    var isUnix: Bool {
        if case .unix = self { true } else { false }
    }

    /// The address that a socket is bound to.
    init(of descriptor: FileDescriptor) {
        self = Self.local(descriptor)
    }

    private static func local(_ descriptor: FileDescriptor) -> SocketAddress {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return unsafe withUnsafeMutablePointer(to: &storage) { storage in
            unsafe storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                guard unsafe getsockname(descriptor.rawValue, address, &length) == 0 else { return .other }
                if unsafe Int32(address.pointee.sa_family) == AF_UNIX {
                    return unsafe UnsafeRawPointer(address).withMemoryRebound(to: sockaddr_un.self, capacity: 1) {
                        unix in
                        let path = unsafe withUnsafeBytes(of: unix.pointee.sun_path) { bytes in
                            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
                        }
                        return .unix(path: path)
                    }
                }
                var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
                var service = [CChar](repeating: 0, count: Int(NI_MAXSERV))
                let flags = NI_NUMERICHOST | NI_NUMERICSERV
                guard
                    unsafe getnameinfo(
                        address, length, &host, socklen_t(host.count), &service, socklen_t(service.count), flags) == 0
                else { return .other }
                let name = String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                let port = String(decoding: service.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                let isLoopback = name.hasPrefix("127.") || name == "::1"
                return UInt16(port).map { .tcp(host: name, port: $0, isLoopback: isLoopback) } ?? .other
            }
        }
    }
}
