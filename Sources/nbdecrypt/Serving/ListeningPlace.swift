// SPDX-License-Identifier: Apache-2.0

import BlockIO
import NBDServer

/// The sockets of a server, and what to clean up after them.
struct ListeningPlace {
    let sockets: [ListeningSocket]
    /// A directory made for the socket alone.
    let privateDirectory: String?
    /// What ``ListenOptions/bind`` calls the address of the first socket.
    let hostName: String?
    /// Somebody else made the sockets and keeps them: a service manager, or the client itself.
    let isInherited: Bool

    /// Where to listen, once the image is open.
    enum Plan {
        /// Sockets of a service manager; their clients wait.
        case inherited([ListeningSocket])
        /// Made when it is needed, so that whoever finds it can connect.
        case unix(path: String)
        /// The ports, of TCP or vsock, are taken, but refuse clients. `host` is what the user calls their address.
        case ports([ListeningSocket], host: String? = nil)
        /// A Unix socket in a directory of its own.
        case privateDirectory
    }

    private init(
        sockets: [ListeningSocket], privateDirectory: String? = nil, hostName: String? = nil, isInherited: Bool = false
    ) {
        self.sockets = sockets
        self.privateDirectory = privateDirectory
        self.hostName = hostName
        self.isInherited = isInherited
    }

    /// Lets clients in.
    /// - Parameter directory: a private directory that there is already, which the owner removes afterwards.
    /// - Throws: ``Failure``.
    init(_ plan: Plan, privateDirectory directory: String? = nil) throws {
        do {
            switch plan {
            case .inherited(let sockets): self.init(sockets: sockets, isInherited: true)
            case .unix(let path): self.init(sockets: [try ListeningSocket(unixPath: path)])
            case .ports(let sockets, let host):
                for socket in sockets { try socket.listen() }
                self.init(sockets: sockets, hostName: host)
            case .privateDirectory:
                if let directory {
                    self.init(sockets: [try Self.socket(in: directory)])
                } else {
                    try self.init(privateDirectoryIn: Process.runtimeDirectory)
                }
            }
        } catch let error as ListenError {
            throw Failure(.cannotOpen, error.worded)
        }
    }

    private init(privateDirectoryIn parent: String) throws {
        let directory: String
        do { directory = try Process.makePrivateDirectory(in: parent) } catch {
            throw Failure(.cannotOpen, "cannot make a directory in \(parent): \(error); choose a place with --socket")
        }
        do {
            self.init(sockets: [try Self.socket(in: directory)], privateDirectory: directory)
        } catch {
            Process.removeDirectory(directory)
            throw error
        }
    }

    private static func socket(in directory: String) throws(ListenError) -> ListeningSocket {
        try ListeningSocket(unixPath: Process.absolutePath("\(directory)/nbd.sock"))
    }

    /// Where to tell clients to go.
    var address: SocketAddress { sockets[0].address }

    /// Removes paths from the file system. The server closes the sockets.
    func remove() {
        guard !isInherited else { return }
        for socket in sockets { socket.unlink() }
        if let privateDirectory { Process.removeDirectory(privateDirectory) }
    }
}
