// SPDX-License-Identifier: Apache-2.0

public import BlockIO
import CLinux
import Glibc
public import SystemPackage

/// A socket that clients connect to; closing it is the owner's duty.
public struct ListeningSocket: Sendable {
    /// Watched by a listener; non-blocking.
    public let descriptor: FileDescriptor
    /// Where clients find it.
    public let address: SocketAddress

    /// Could ``init(unixPath:)`` make a socket there? Removes a socket that a dead server left behind.
    ///
    /// - Throws: ``ListenError`` when it could not, as far as can be told without making one.
    public static func check(unixPath path: String) throws(ListenError) {
        guard let address = unixAddress(path) else { throw tooLong(path) }
        try removeStaleSocket(path, address)
        let directory = FilePath(path).removingLastComponent().string
        guard unsafe access(directory.isEmpty ? "." : directory, W_OK | X_OK) == 0 else {
            throw cannotListen(path, Errno(rawValue: errno))
        }
    }

    private static func tooLong(_ path: String) -> ListenError {
        ListenError(
            "the socket path \(path) is longer than 107 bytes; choose a shorter one with \(remedy: .socketPath)")
    }

    private static func cannotListen(_ path: String, _ error: Errno) -> ListenError {
        let advice: Sentence = error == .noSuchFileOrDirectory ? "; make its directory first" : ""
        return ListenError("cannot listen on \(path): \(error)\(advice)")
    }

    /// Listens on a Unix socket that only this user may connect to.
    ///
    /// A socket that a dead server left behind is replaced; one that answers is not.
    /// - Throws: ``ListenError``.
    public init(unixPath path: String) throws(ListenError) {
        guard var address = Self.unixAddress(path) else { throw Self.tooLong(path) }
        let descriptor = try Self.open(AF_UNIX)
        var outcome = Self.bind(descriptor, &address)
        if outcome == .addressInUse {
            do { try Self.removeStaleSocket(path, address) } catch {
                try? descriptor.close()
                throw error
            }
            outcome = Self.bind(descriptor, &address)
        }
        if let outcome {
            try? descriptor.close()
            throw Self.cannotListen(path, outcome)
        }
        self.init(bound: descriptor, address: .unix(path: path))
        try listen()
    }

    /// Takes every address that `host` stands for; ``listen()`` lets clients come.
    ///
    /// - Parameters:
    ///   - host: a numeric address or a name.
    ///   - port: 0 lets the system choose.
    /// - Throws: ``ListenError``; then nothing is left open.
    public static func tcp(host: String, port: UInt16) throws(ListenError) -> [ListeningSocket] {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        let result = unsafe getaddrinfo(host, String(port), &hints, &list)
        guard result == 0 else {
            throw ListenError(
                "cannot find the address \(host): \(unsafe String(cString: gai_strerror(result))); "
                    + "give a numeric address of this machine with \(remedy: .address)")
        }
        defer { unsafe freeaddrinfo(list) }
        var sockets: [ListeningSocket] = []
        var entry = unsafe list
        while let info = unsafe entry {
            // A port that the system chooses is the same for all addresses.
            let port = if case .tcp(_, let chosen, _)? = sockets.first?.address { chosen } else { port }
            do { sockets.append(try unsafe ListeningSocket(info.pointee, host, port)) } catch {
                for socket in sockets { socket.close() }
                throw error
            }
            unsafe entry = unsafe info.pointee.ai_next
        }
        return sockets
    }

    private init(_ info: addrinfo, _ host: String, _ port: UInt16) throws(ListenError) {
        let descriptor = try unsafe Self.open(info.ai_family)
        var one: Int32 = 1
        unsafe setsockopt(descriptor.rawValue, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        if unsafe info.ai_family == AF_INET6 {
            unsafe setsockopt(
                descriptor.rawValue, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &one, socklen_t(MemoryLayout<Int32>.size))
        }
        guard unsafe Glibc.bind(descriptor.rawValue, info.ai_addr, info.ai_addrlen) == 0 else {
            let error = Errno(rawValue: errno)
            try? descriptor.close()
            let advice: Sentence = error == .addressInUse ? "; choose another port with \(remedy: .tcpPort)" : ""
            throw ListenError("cannot listen on \(host) port \(port): \(error)\(advice)")
        }
        self.init(bound: descriptor, address: SocketAddress(of: descriptor))
    }

    /// Takes a port of vsock(7) for the host and its virtual machines; ``listen()`` lets clients come.
    ///
    /// - Parameter port: 0 takes one that is free, above those for the system.
    /// - Throws: ``ListenError``; then nothing is left open.
    public static func vsock(port: UInt32) throws(ListenError) -> ListeningSocket {
        let descriptor: FileDescriptor
        do { descriptor = try open(AF_VSOCK) } catch {
            throw ListenError("\(error); does this machine have vsock (modprobe vsock)?")
        }
        var outcome = Errno.addressInUse
        // The kernel would choose among 2^32 ports, and clients cannot read most of them from a URI.
        for _ in 0..<(port == 0 ? 64 : 1) {
            let number = port == 0 ? UInt32.random(in: 1024...SocketAddress.maximumVsockPort) : port
            if linux_vsock_bind(descriptor.rawValue, SocketAddress.anyCID, number) == 0 {
                return ListeningSocket(bound: descriptor, address: SocketAddress(of: descriptor))
            }
            outcome = Errno(rawValue: errno)
        }
        try? descriptor.close()
        let advice: Sentence =
            switch outcome {
            case .addressInUse: "; choose another port with \(remedy: .vsockPort)"
            case .permissionDenied: "; choose a port above 1023 with \(remedy: .vsockPort)"
            default: ""
            }
        throw ListenError("cannot listen on vsock port \(port): \(outcome)\(advice)")
    }

    /// Takes over a descriptor that a service manager has opened and bound.
    public init(inherited descriptor: FileDescriptor) throws(ListenError) {
        var accepting: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard unsafe getsockopt(descriptor.rawValue, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &length) == 0,
            accepting == 1
        else {
            throw ListenError("descriptor \(descriptor.rawValue) from LISTEN_FDS is not a listening stream socket")
        }
        _ = fcntl(descriptor.rawValue, F_SETFD, FD_CLOEXEC)
        _ = fcntl(descriptor.rawValue, F_SETFL, fcntl(descriptor.rawValue, F_GETFL) | O_NONBLOCK)
        self.descriptor = descriptor
        self.address = SocketAddress(of: descriptor)
    }

    private init(bound descriptor: FileDescriptor, address: SocketAddress) {
        self.descriptor = descriptor
        self.address = address
    }

    /// Lets clients come; before, they are refused. Does nothing to a socket that listens already.
    /// - Throws: ``ListenError``; the socket is closed then.
    public func listen() throws(ListenError) {
        // The longest queue there can be: a client that does not wait fails when it is full.
        guard Glibc.listen(descriptor.rawValue, Int32(SOMAXCONN)) == 0 else {
            let error = Errno(rawValue: errno)
            close()
            throw ListenError("cannot listen: \(error)")
        }
    }

    /// The next waiting client; `wouldBlock` when there is none.
    func accept() -> Result<FileDescriptor, Errno> {
        let client = linux_accept(descriptor.rawValue)
        return client >= 0 ? .success(FileDescriptor(rawValue: client)) : .failure(Errno(rawValue: errno))
    }

    /// Stops listening. The path of a Unix socket stays: see ``unlink()``.
    public func close() { try? descriptor.close() }

    /// Removes the path of a Unix socket.
    public func unlink() {
        // A name in the abstract namespace is none in the file system.
        if case .unix(let path) = address, !path.hasPrefix("\0") { unsafe Glibc.unlink(path) }
    }

    private static func open(_ family: Int32) throws(ListenError) -> FileDescriptor {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = socket(family, type, 0)
        guard descriptor >= 0 else { throw ListenError("cannot make a socket: \(Errno(rawValue: errno))") }
        return FileDescriptor(rawValue: descriptor)
    }

    private static func unixAddress(_ path: String) -> sockaddr_un? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = unsafe withUnsafeMutableBytes(of: &address.sun_path) { target in
            guard path.utf8.count < target.count else { return false }
            unsafe target.copyBytes(from: path.utf8)
            return true
        }
        return fits ? address : nil
    }

    /// Nil when it worked.
    private static func bind(_ descriptor: FileDescriptor, _ address: inout sockaddr_un) -> Errno? {
        // The mode of a socket is what the mask leaves when it is bound: nobody else may connect, at no moment.
        let mask = umask(0o177)
        defer { umask(mask) }
        let result = unsafe withUnsafePointer(to: &address) { address in
            unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe Glibc.bind(descriptor.rawValue, address, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        return result == 0 ? nil : Errno(rawValue: errno)
    }

    private static func removeStaleSocket(_ path: String, _ address: sockaddr_un) throws(ListenError) {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw ListenError("\(path) exists and is not a socket; choose another path with \(remedy: .socketPath)")
        }
        let probe = try open(AF_UNIX)
        defer { try? probe.close() }
        var address = address
        let result = unsafe withUnsafePointer(to: &address) { address in
            unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe connect(probe.rawValue, address, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        let error = Errno(rawValue: errno)
        if result != 0, error == .permissionDenied {
            throw ListenError(
                "\(path) exists and belongs to another user; choose another path with \(remedy: .socketPath)")
        }
        guard result != 0, error == .connectionRefused else {
            throw ListenError(
                "\(path) is in use by a running server; stop that one or choose another path with \(remedy: .socketPath)"
            )
        }
        unsafe Glibc.unlink(path)
    }
}

/// Why nothing listens: one sentence.
public struct ListenError: Error, Equatable, SentenceConvertible {
    /// Says what to do, where something can be done.
    public let sentence: Sentence

    /// - Parameter sentence: with what to do.
    public init(_ sentence: Sentence) { self.sentence = sentence }
}
