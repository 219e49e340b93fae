// SPDX-License-Identifier: Apache-2.0

import SystemPackage

/// What a client needs for TLS, as the printed commands name it.
enum ClientCredentials: Equatable {
    /// A key that the server has too: that of `user` in `file`.
    case preSharedKey(user: String, file: String)
    /// Certificates in `directory`; nil when the certificate authorities that the client's system knows will do.
    /// `areOwn`: the server asks for a certificate of the client.
    case certificates(directory: String?, areOwn: Bool)

    /// Stands in commands for a directory that only the client can know.
    static let placeholder = "DIR"
    /// What QEMU calls the file of keys in the directory that it is told.
    static let qemuKeyFile = "keys.psk"

    /// Of the certificates of a server. Clients on the same machine can use its directory, if what they need is there.
    init(serverDirectory directory: String, verifiesClients: Bool) {
        let authority = Self.isReadable("\(directory)/ca-cert.pem")
        let own = Self.isReadable("\(directory)/client-cert.pem") && Self.isReadable("\(directory)/client-key.pem")
        self =
            if verifiesClients {
                .certificates(directory: authority && own ? directory : Self.placeholder, areOwn: true)
            } else {
                .certificates(directory: authority ? directory : nil, areOwn: false)
            }
    }

    private static func isReadable(_ path: String) -> Bool {
        guard let file = try? FileDescriptor.open(FilePath(path), .readOnly, options: [.closeOnExec, .nonBlocking])
        else {
            return false
        }
        try? file.close()
        return true
    }

    /// What to tell the person who started the server, a line each.
    /// - Parameter clientsAreElsewhere: some of them cannot read the files of this machine.
    func notes(clientsAreElsewhere: Bool) -> [String] {
        var notes: [String] = []
        switch self {
        case .preSharedKey(let user, let file):
            if clientsAreElsewhere {
                notes.append(
                    "Clients on other machines need a copy of \(file), with the key of \(user) that lets them in.")
            }
            if !isForQEMU { notes.append("QEMU reads keys only from a file with the name \(Self.qemuKeyFile).") }
        case .certificates(Self.placeholder, areOwn: true):
            notes.append(
                "Each client needs a certificate of its own: \(Self.placeholder) stands for its directory with "
                    + "ca-cert.pem, client-cert.pem and client-key.pem.")
        case .certificates(let directory?, let areOwn):
            if clientsAreElsewhere {
                notes.append(
                    "Clients on other machines name their own directory with ca-cert.pem"
                        + (areOwn ? ", client-cert.pem and client-key.pem" : "") + ", not \(directory).")
            }
        case .certificates: break
        }
        return notes
    }

    /// Whether QEMU can be told of them.
    private var isForQEMU: Bool { qemuObject(id: "") != nil }

    /// The value of QEMU's option `-object`, or nil when QEMU cannot use them.
    func qemuObject(id: String) -> [(name: String, value: String)]? {
        switch self {
        case .preSharedKey(let user, let file):
            let path = FilePath(file)
            guard path.lastComponent?.string == Self.qemuKeyFile else { return nil }
            return [
                ("", "tls-creds-psk"), ("id", id), ("dir", path.removingLastComponent().string), ("username", user),
                ("endpoint", "client"),
            ]
        case .certificates(let directory?, _):
            return [("", "tls-creds-x509"), ("id", id), ("dir", directory), ("endpoint", "client")]
        case .certificates: return nil
        }
    }

    /// The words that tell nbd-client, which knows certificates alone; nil when it cannot connect.
    var nbdClientWords: [String]? {
        guard case .certificates(let directory?, let areOwn) = self else { return nil }
        let own =
            areOwn ? ["-certfile", "\(directory)/client-cert.pem", "-keyfile", "\(directory)/client-key.pem"] : []
        return ["-enable-tls", "-cacertfile", "\(directory)/ca-cert.pem"] + own
    }
}
