// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import NBDServer

/// The address of an export and the commands that read it, ready to paste.
struct Instructions {
    let address: SocketAddress
    /// What the user calls the address, if it is one of TCP.
    var hostName: String?
    /// Nil without TLS.
    var credentials: ClientCredentials?
    /// The default one first.
    let exports: [Export]
    /// What brings overlays into their images, once the server has stopped.
    let commits: [String]
    let image: String

    private var export: Export { exports[0] }

    /// Who connects.
    enum Client {
        /// A program on this machine.
        case here
        /// A program on whatever machine the address is for: the one that listens, or any.
        case anywhere
    }

    /// The environment of a command that runs beside the server.
    var environment: [String: String] {
        var variables = ["uri": uri(export, for: .here).description]
        switch address {
        case .unix(let path): variables["unixsocket"] = path
        case .tcp(_, let port, _): variables["port"] = String(port)
        case .vsock(_, let port): variables["port"] = String(port)
        case .other: break
        }
        return variables
    }

    /// The address of an export.
    func uri(_ export: Export, for client: Client) -> NBDURI {
        var uri = NBDURI(place: place(for: client), exportName: export.name, isEncrypted: credentials != nil)
        switch credentials {
        case .preSharedKey(let user, let file)?:
            uri.user = user
            uri.keyFile = file
        case .certificates(let directory, _)?: uri.certificates = directory
        case nil: break
        }
        return uri
    }

    private func place(for client: Client) -> NBDURI.Place {
        switch address {
        case .unix(let path): .unix(path: path)
        case .tcp("0.0.0.0", let port, _): .tcp(host: client == .here ? "127.0.0.1" : "HOST", port: port)
        case .tcp("::", let port, _): .tcp(host: client == .here ? "::1" : "HOST", port: port)
        case .tcp(let host, let port, _): .tcp(host: certifiedName ?? host, port: port)
        case .vsock(SocketAddress.anyCID, let port):
            .vsock(
                cid: client == .here ? SocketAddress.localCID : SocketAddress.guestCID ?? SocketAddress.hostCID,
                port: port)
        case .vsock(let cid, let port): .vsock(cid: cid, port: port)
        case .other: .tcp(host: "unknown-address", port: 10809)
        }
    }

    /// Clients compare the name by which they know the server with its certificate.
    private var certifiedName: String? {
        if case .certificates? = credentials { hostName } else { nil }
    }

    /// What to tell the person who started the server.
    var text: String {
        let uri = uri(export, for: .anywhere)
        let commands = [
            ("Copy it:", QEMUCommands(uri, credentials)?.convert),
            ("", "nbdcopy -p \(ShellText.quoted(uri.description)) copy.raw"),
            ("Attach it:", nbdClient(uri)),
            ("Boot it:", QEMUCommands(uri, credentials)?.boot(isWritable: export.device.isWritable)),
        ]
        var lines = [
            "Serving \(image) (\(export.description)), \(export.device.isWritable ? "writable" : "read-only"), "
                + "\(export.device.size) bytes", "  \(uri)",
        ]
        var title = ""
        for (name, command) in commands {
            if !name.isEmpty { title = name }
            guard let command else { continue }
            lines.append(title + String(repeating: " ", count: 12 - title.count) + command)
            title = ""
        }
        let later = commits.isEmpty ? [] : ["Bring the changes into the image, when this has stopped:"]
        return (lines + others + notes + later + commits.map { "  \($0)" } + ["Stop with ctrl-C."])
            .joined(separator: "\n")
    }

    /// Further exports, and what they are.
    private var others: [String] {
        guard exports.count > 1 else { return [] }
        return ["More exports:"]
            + exports.dropFirst().flatMap {
                ["  \(uri($0, for: .anywhere))", "    \($0.description), \($0.device.size) bytes"]
            }
    }

    private var notes: [String] {
        var notes = credentials?.notes(clientsAreElsewhere: address.isReachableFromOutside) ?? []
        let rest = export.device.size % UInt64(Self.kernelBlockSize)
        if rest > 0, nbdClient(uri(export, for: .anywhere)) != nil {
            notes.append(
                "Attached by nbd-client, the disk lacks its last \(rest) bytes: Linux counts in sectors of 512.")
        }
        if case .vsock(SocketAddress.anyCID, _) = address {
            notes.append(
                SocketAddress.guestCID.map {
                    "The host of this virtual machine reaches it with its number, \($0)."
                } ?? "Virtual machines of this host reach it with the number of every host, \(SocketAddress.hostCID).")
        }
        return notes
    }

    /// What Linux takes for the sector of a disk, in bytes, unless it is told otherwise.
    private static let kernelBlockSize = 512

    /// Nil when nbd-client cannot connect.
    private func nbdClient(_ uri: NBDURI) -> String? {
        let server: [String]
        switch uri.place {
        case .unix(let path): server = ["-unix", path]
        case .tcp(let host, let port): server = [host, String(port)]
        case .vsock: return nil
        }
        guard let tls = credentials.map({ $0.nbdClientWords }) ?? [] else { return nil }
        let name = uri.exportName.isEmpty ? [] : ["-name", uri.exportName]
        // Programs read the partition table of a disk in units of this; old versions of nbd-client assume 1024.
        let blockSize = ["-b", String(max(Self.kernelBlockSize, export.device.alignment))]
        let mode = export.device.isWritable ? [] : ["-readonly"]
        return (["sudo", "nbd-client"] + server + name + tls + ["/dev/nbd0"] + blockSize + mode).map(ShellText.quoted)
            .joined(
                separator: " ")
    }
}
