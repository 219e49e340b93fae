// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import SystemPackage

/// Where a listening socket can be reached.
public enum SocketAddress: Equatable, Sendable {
    /// A name in the abstract namespace starts with a NUL character, as in unix(7).
    case unix(path: String)
    /// `host` is a numeric address.
    case tcp(host: String, port: UInt16, isLoopback: Bool)
    /// Between a host and its virtual machines (vsock(7)). `cid` is the machine whose address it is, or ``anyCID``.
    case vsock(cid: UInt32, port: UInt32)
    case other

    /// Every address of a machine (VMADDR_CID_ANY).
    public static let anyCID = UInt32.max
    /// This machine, for itself alone (VMADDR_CID_LOCAL).
    public static let localCID: UInt32 = 1
    /// The host, as its guests see it (VMADDR_CID_HOST).
    public static let hostCID: UInt32 = 2
    /// The highest port that clients read from a URI; libxml2, which libnbd uses, takes larger ones for this one.
    public static let maximumVsockPort: UInt32 = 99_999_999

    /// Can other machines connect, real or virtual ones?
    public var isReachableFromOutside: Bool {
        switch self {
        case .unix: false
        case .tcp(_, _, let isLoopback): !isLoopback
        case .vsock(let cid, _): cid != Self.localCID
        case .other: true
        }
    }

    /// The number of this machine among the guests of its host; nil when it is no guest.
    public static var guestCID: UInt32? {
        var cid: UInt32 = 0
        guard unsafe linux_vsock_local_cid(&cid) == 0, cid > hostCID, cid != anyCID else { return nil }
        return cid
    }

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
                switch unsafe Int32(address.pointee.sa_family) {
                case AF_UNIX: return unsafe unix(UnsafeRawPointer(address), length)
                case AF_INET, AF_INET6: return unsafe tcp(address, length)
                case AF_VSOCK: return vsock(descriptor)
                default: return .other
                }
            }
        }
    }

    private static func unix(_ address: UnsafeRawPointer, _ length: socklen_t) -> SocketAddress {
        let start = MemoryLayout<sockaddr_un>.offset(of: \.sun_path) ?? MemoryLayout<sa_family_t>.size
        let end = min(Int(length), MemoryLayout<sockaddr_un>.size)
        guard start < end else { return .unix(path: "") }
        let bytes = unsafe UnsafeRawBufferPointer(start: address + start, count: end - start)
        // A path ends at a NUL, a name in the abstract namespace with the address.
        let name = unsafe bytes[0] == 0 ? Array(bytes) : Array(bytes.prefix { $0 != 0 })
        return .unix(path: String(decoding: name, as: UTF8.self))
    }

    private static func tcp(_ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> SocketAddress {
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

    private static func vsock(_ descriptor: FileDescriptor) -> SocketAddress {
        var cid: UInt32 = 0
        var port: UInt32 = 0
        guard unsafe linux_vsock_name(descriptor.rawValue, &cid, &port) == 0 else { return .other }
        return .vsock(cid: cid, port: port)
    }
}
