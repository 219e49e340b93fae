// SPDX-License-Identifier: Apache-2.0

import NBDServer

/// The sockets of a server, and what to clean up after them.
struct ListeningPlace {
    let sockets: [ListeningSocket]
    /// A directory made for the socket alone.
    let privateDirectory: String?
    /// False when a service manager made the sockets and keeps them.
    let ownsPaths: Bool

    /// Where to tell clients to go.
    var address: SocketAddress { sockets[0].address }

    /// Removes paths from the file system. The server closes the sockets.
    func remove() {
        guard ownsPaths else { return }
        for socket in sockets { socket.unlink() }
        if let privateDirectory { Process.removeDirectory(privateDirectory) }
    }

    /// Gives up the sockets before a server has them.
    func close() {
        for socket in sockets { socket.close() }
    }
}
