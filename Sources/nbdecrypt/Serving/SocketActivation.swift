// SPDX-License-Identifier: Apache-2.0

import BlockIO
import NBDServer
import SystemPackage

/// Sockets that a service manager has opened (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS).
enum SocketActivation {
    private static let firstDescriptor: Int32 = 3
    private static let maximumCount: Int32 = 64

    /// The sockets, or none. The variables are removed, so that children do not take them for theirs.
    /// - Throws: ``ListenError`` when one is not a listening stream socket.
    static func sockets() throws(ListenError) -> [ListeningSocket] {
        let owner = Process.environment("LISTEN_PID").flatMap(Int32.init)
        let count = Process.environment("LISTEN_FDS").flatMap(Int32.init) ?? 0
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] { Process.removeFromEnvironment(name) }
        guard owner == Process.identifier, count > 0 else { return [] }
        guard count <= maximumCount else {
            throw ListenError("LISTEN_FDS passes \(count) sockets; at most \(maximumCount) are taken")
        }
        var sockets: [ListeningSocket] = []
        for number in firstDescriptor..<(firstDescriptor + count) {
            sockets.append(try ListeningSocket(inherited: FileDescriptor(rawValue: number)))
        }
        return sockets
    }
}
