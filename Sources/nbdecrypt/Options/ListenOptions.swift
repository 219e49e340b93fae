// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
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

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Listen on vsock at this port (0: any that is free), for the host and all of its virtual machines.",
            valueName: "n"))
    var vsock: UInt32?

    @Flag(
        name: .long,
        help: "Allow TCP and vsock addresses that other machines can reach, though clients need not use TLS.")
    var insecurePlaintext = false

    func validate() throws {
        guard socket?.isEmpty != true else { throw ValidationError("--socket takes the path of the socket to make.") }
        guard socket == nil || (bind == nil && port == nil) else {
            throw ValidationError("--socket cannot be combined with --bind and --port.")
        }
        guard vsock == nil || (socket == nil && bind == nil && port == nil) else {
            throw ValidationError("--vsock cannot be combined with --socket, --bind and --port.")
        }
        guard vsock ?? 0 <= SocketAddress.maximumVsockPort else {
            throw ValidationError(
                "--vsock takes a port from 0 to \(SocketAddress.maximumVsockPort); clients cannot read a larger one "
                    + "from a URI.")
        }
    }

    /// Checks the addresses, and takes those that can be taken without letting clients in: what is wrong with them is
    /// told before anybody types a passphrase.
    /// - Parameter isEncrypted: nothing crosses a connection in the clear.
    /// - Throws: ``Failure``.
    func prepare(isEncrypted: Bool) throws -> ListeningPlace.Plan {
        do {
            let inherited = try SocketActivation.sockets()
            if !inherited.isEmpty {
                guard socket == nil, bind == nil, port == nil, vsock == nil else {
                    throw Failure(
                        .usage,
                        "the service manager passes sockets (LISTEN_FDS): --socket, --bind, --port and --vsock are of "
                            + "no use")
                }
                return .inherited(try withinReach(inherited, isEncrypted))
            }
            if let socket {
                let path = Process.absolutePath(socket)
                try ListeningSocket.check(unixPath: path)
                return .unix(path: path)
            }
            if let vsock { return .ports(try withinReach([ListeningSocket.vsock(port: vsock)], isEncrypted)) }
            guard bind != nil || port != nil else { return .privateDirectory }
            let host = bind.map(Self.withoutBrackets) ?? "127.0.0.1"
            return .ports(
                try withinReach(ListeningSocket.tcp(host: host, port: port ?? 10809), isEncrypted), host: host)
        } catch let error as ListenError {
            throw Failure(.cannotOpen, error.worded)
        }
    }

    /// An IPv6 address as it is in a URI, without its brackets.
    private static func withoutBrackets(_ host: String) -> String {
        host.hasPrefix("[") && host.hasSuffix("]") && host.contains(":") ? String(host.dropFirst().dropLast()) : host
    }

    /// The plaintext of an encrypted disk does not leave the machine by accident.
    private func withinReach(_ sockets: [ListeningSocket], _ isEncrypted: Bool) throws -> [ListeningSocket] {
        guard !insecurePlaintext, !isEncrypted,
            let exposed = sockets.map(\.address).first(where: \.isReachableFromOutside)
        else { return sockets }
        let encryption =
            "add --tls-psk=auto or --tls-certs (with --tls=require, which is their default), or --insecure-plaintext"
        switch exposed {
        case .tcp(let host, _, _):
            throw Failure(
                .usage,
                "\(host) can be reached from other machines, and the decrypted disk would cross the network in the "
                    + "clear; use --socket or 127.0.0.1 with an ssh tunnel, \(encryption)")
        case .vsock:
            throw Failure(
                .usage,
                "every virtual machine of this host, and the host, can connect through vsock, and would read the "
                    + "decrypted disk in the clear; \(encryption)")
        case .unix, .other:
            throw Failure(
                .usage,
                "the socket of the service manager is of a kind that others may reach, and would read the decrypted "
                    + "disk in the clear; \(encryption)")
        }
    }
}
