// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Logging
import NBDServer
import SystemPackage

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

    /// Opens the sockets.
    /// - Throws: ``Failure``.
    func open(_ log: Logger) throws -> ListeningPlace {
        do {
            let inherited = try SocketActivation.sockets()
            if !inherited.isEmpty {
                guard socket == nil, bind == nil, port == nil else {
                    throw Failure(
                        .usage,
                        "the service manager passes sockets (LISTEN_FDS): --socket, --bind and --port are of no use")
                }
                let place = ListeningPlace(sockets: inherited, privateDirectory: nil, ownsPaths: false)
                try checkReach(place)
                return place
            }
            if let socket {
                return ListeningPlace(
                    sockets: [try ListeningSocket(unixPath: Process.absolutePath(socket))], privateDirectory: nil,
                    ownsPaths: true)
            }
            if bind != nil || port != nil {
                let sockets = try ListeningSocket.tcp(host: bind ?? "127.0.0.1", port: port ?? 10809)
                let place = ListeningPlace(sockets: sockets, privateDirectory: nil, ownsPaths: true)
                try checkReach(place)
                return place
            }
            return try openPrivate()
        } catch let error as ListenError {
            throw Failure(.cannotOpen, error.description)
        }
    }

    private func openPrivate() throws -> ListeningPlace {
        let parent = Process.environment("XDG_RUNTIME_DIR") ?? Process.environment("TMPDIR") ?? "/tmp"
        let directory: String
        do { directory = try Process.makePrivateDirectory(in: parent) } catch {
            throw Failure(.cannotOpen, "cannot make a directory in \(parent): \(error); choose a place with --socket")
        }
        do {
            let socket = try ListeningSocket(unixPath: Process.absolutePath("\(directory)/nbd.sock"))
            return ListeningPlace(sockets: [socket], privateDirectory: directory, ownsPaths: true)
        } catch {
            Process.removeDirectory(directory)
            throw error
        }
    }

    /// The plaintext of an encrypted disk does not cross a network by accident.
    private func checkReach(_ place: ListeningPlace) throws {
        guard !insecurePlaintext else { return }
        for socket in place.sockets {
            if case .tcp(let host, _, isLoopback: false) = socket.address {
                place.close()
                throw Failure(
                    .usage,
                    "\(host) can be reached from other machines, and the decrypted disk would cross the network in the "
                        + "clear; use --socket or 127.0.0.1 with an ssh tunnel, or add --insecure-plaintext")
            }
        }
    }
}
