// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Certificates and keys of servers and clients, in a temporary directory; see Tests/Fixtures/make-tls-credentials.
struct TLSCredentials: Sendable {
    /// What a client shows.
    enum Client: Sendable {
        /// The certificate in the directory of this name, or none when there is none in it.
        case certificate(String)
        /// The key of a user in `right` or `wrong`.
        case key(String, in: String)

        static let laptop = Client.certificate("laptop")
        static let alice = Client.key("alice", in: "right")
    }

    /// The version of TLS that GnuTLS is held to.
    enum Version: String, CaseIterable, Sendable {
        case old = "1.2"
        case new = "1.3"
        /// Nothing is left: a client fails that respects this.
        case none
    }

    let path: String

    /// Makes them anew.
    ///
    /// Beside what the script makes there are the directories `right` and `wrong`, whose files keys.psk hold a key of
    /// alice each, and the latter one of mallory; and `mistrust`, a client that trusts another authority.
    init(in directory: TemporaryDirectory) async throws {
        path = directory.file("tls")
        try await Tool.succeed("\(Program.root)/Tests/Fixtures/make-tls-credentials", [path])
        try await Tool.shell(
            """
            umask 077; cd \(path); mkdir right wrong mistrust
            echo alice:\(String(repeating: "5a", count: 32)) > right/keys.psk
            echo alice:\(String(repeating: "a5", count: 32)) > wrong/keys.psk
            echo mallory:\(String(repeating: "5a", count: 32)) >> wrong/keys.psk
            cp other/ca-cert.pem laptop/client-*.pem mistrust
            override() { echo '[overrides]'; for v in "$@"; do echo "disabled-version = tls$v"; done; }
            override 1.0 1.1 1.3 > gnutls-1.2; override 1.0 1.1 1.2 > gnutls-1.3; override 1.0 1.1 1.2 1.3 > gnutls-none
            """)
    }

    /// The path of a file or directory.
    func file(_ name: String) -> String { "\(path)/\(name)" }

    /// What makes GnuTLS keep to a version, for programs.
    func environment(_ version: Version) -> [String: String?] {
        ["GNUTLS_SYSTEM_PRIORITY_FILE": file("gnutls-\(version.rawValue)")]
    }

    /// Where a client finds a server.
    func uri(_ server: ServerUnderTest, _ client: Client) throws -> String {
        let (user, query) =
            switch client {
            case .certificate(let name): ("", "tls-certificates=\(file(name))")
            case .key(let user, let place): ("\(user)@", "tls-psk-file=\(file(place))/keys.psk")
            }
        guard let socket = server.socketPath else {
            return "nbds://\(user)localhost:\(try #require(server.port))/?\(query)"
        }
        return "nbds+unix://\(user)/?socket=\(socket)&\(query)"
    }

    /// The same for qemu-img, which puts these arguments where others have the name of a file.
    func qemuArguments(_ server: ServerUnderTest, _ client: Client) throws -> [String] {
        let object =
            switch client {
            case .certificate(let name): "tls-creds-x509,id=t,endpoint=client,dir=\(file(name))"
            case .key(let user, let place):
                "tls-creds-psk,id=t,endpoint=client,dir=\(file(place)),username=\(user)"
            }
        var place = server.socketPath.map { "server.type=unix,server.path=\($0)" }
        if place == nil { place = "server.type=inet,server.host=localhost,server.port=\(try #require(server.port))" }
        var options = "driver=nbd,\(place ?? ""),tls-creds=t"
        if case .certificate = client { options += ",tls-hostname=localhost" }
        return ["--object", object, "--image-opts", options]
    }
}
