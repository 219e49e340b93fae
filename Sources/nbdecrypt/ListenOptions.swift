// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import NBDServer

/// The options that say where to listen.
struct ListenOptions: ParsableArguments {
    @Option(
        name: [.customShort("k"), .long],
        help: ArgumentHelp(
            "Listen on a Unix socket, which only you can connect to.", valueName: "path"))
    var socket: String?

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Listen on TCP at this address (default: 127.0.0.1).", valueName: "address"))
    var bind: String?

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Listen on TCP at this port (default: 10809; 0: any that is free).", valueName: "n"))
    var port: UInt16?

    @Flag(name: .long, help: "Allow TCP addresses that other machines can reach, without encryption.")
    var insecurePlaintext = false

    func validate() throws {
        guard socket?.isEmpty != true else { throw ValidationError("--socket takes the path of the socket to make.") }
        guard socket == nil || (bind == nil && port == nil) else {
            throw ValidationError("--socket cannot be combined with --bind and --port.")
        }
    }

    /// Checks the addresses, and takes those that can be taken without letting clients in: what is wrong with them is
    /// told before anybody types a passphrase.
    /// - Throws: ``Failure``.
    func prepare() throws -> ListeningPlace.Plan {
        do {
            let inherited = try SocketActivation.sockets()
            if !inherited.isEmpty {
                guard socket == nil, bind == nil, port == nil else {
                    throw Failure(
                        .usage,
                        "the service manager passes sockets (LISTEN_FDS): --socket, --bind and --port are of no use")
                }
                return .inherited(try withinReach(inherited))
            }
            if let socket {
                let path = Process.absolutePath(socket)
                try ListeningSocket.check(unixPath: path)
                return .unix(path: path)
            }
            guard bind != nil || port != nil else { return .privateDirectory }
            return .tcp(try withinReach(ListeningSocket.tcp(host: bind ?? "127.0.0.1", port: port ?? 10809)))
        } catch let error as ListenError {
            throw Failure(.cannotOpen, error.description)
        }
    }

    /// The plaintext of an encrypted disk does not cross a network by accident.
    private func withinReach(_ sockets: [ListeningSocket]) throws -> [ListeningSocket] {
        guard !insecurePlaintext else { return sockets }
        for socket in sockets {
            if case .tcp(let host, _, isLoopback: false) = socket.address {
                throw Failure(
                    .usage,
                    "\(host) can be reached from other machines, and the decrypted disk would cross the network in the "
                        + "clear; use --socket or 127.0.0.1 with an ssh tunnel, or add --insecure-plaintext")
            }
        }
        return sockets
    }
}
