// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Clients whose credentials are not good enough; others do not notice.
@Suite(.fewAtATime)
struct TLSRefusalTests {
    /// Directories of credentials, and what the log says of them.
    static let certificates = [
        ("expired", ["CN=expired, is refused: certificate has expired; renew it"]),
        ("revoked", ["CN=revoked, is refused: certificate revoked; ca-crl.pem lists it"]),
        (
            "stranger",
            ["CN=laptop,O=Example Home,C=GB, is refused: ", "must be signed by a certificate in ca-cert.pem"]
        ),
        ("purpose", ["CN=purpose, is refused: ", "for the purpose clientAuth"]),
        ("anonymous", ["the client showed no certificate, which --tls-verify-peer demands"]),
        // GnuTLS goes without a word.
        ("mistrust", ["TLS failed: the client hung up"]),
    ]

    @Test(arguments: certificates)
    func `certificates that are not good are refused with a reason in the log`(_ name: String, _ sentence: [String])
        async throws
    {
        try await TLSTestBed.run { bed in
            try await bed.serve(bed.certificates("server-crl") + ["--tls-verify-peer"]) { server in
                try await bed.undisturbed(server) {
                    for (index, version) in [TLSCredentials.Version.old, .new].enumerated() {
                        let client = TLSCredentials.Client.certificate(name)
                        let errors = try await bed.expectRefusal(try bed.credentials.uri(server, client), version)
                        #expect(errors.contains("gnutls") || errors.contains("TLS"), "\(errors)")
                        let outcome = try await Tool.run(
                            "qemu-img", ["info"] + (try bed.credentials.qemuArguments(server, client)),
                            environment: bed.credentials.environment(version))
                        #expect(outcome.code == 1 && outcome.output.isEmpty, "\(outcome.output)")
                        // QEMU looks at its own certificates first: it does not even try those it sees are bad.
                        try await bed.expectLog(server, ["TLS failed: "] + sentence, count: index + 1)
                    }
                }
            }
        }
    }

    @Test func `a server whose certificate has expired is refused by clients, not by those with a key`() async throws {
        try await TLSTestBed.run { bed in
            try await bed.serve(bed.certificates("server-expired") + bed.keys) { server in
                #expect(try server.errors.contains("warning: "))
                try await bed.undisturbed(server, .alice) {
                    for version in [TLSCredentials.Version.old, .new] {
                        let errors = try await bed.expectRefusal(try bed.credentials.uri(server, .laptop), version)
                        #expect(errors.contains("certificate"), "\(errors)")
                    }
                    try await bed.expectLog(server, ["TLS failed: the client hung up"], count: 2)
                }
            }
        }
    }

    @Test func `a name with commas, UTF-8 and several attributes can be allowed just as the log writes it`()
        async throws
    {
        try await TLSTestBed.run { bed in
            var name = ""
            let options = bed.certificates() + ["--tls-verify-peer", "--tls-allow-dn"]
            try await bed.serve(options + ["CN=laptop,O=Example Home,C=GB"]) { server in
                try await bed.undisturbed(server) {
                    for version in [TLSCredentials.Version.old, .new] {
                        _ = try await bed.expectRefusal(
                            try bed.credentials.uri(server, .certificate("odd")), version)
                    }
                    try await bed.expectLog(server, ["which is not allowed"], count: 2)
                }
                name = String(try #require(server.errors.firstMatch(of: /add --tls-allow-dn '(.*)'; conn/)).1)
            }
            #expect(name.contains("Käse") && name.contains(#"Example\, Home"#), "\(name)")
            try await bed.serve(options + [name]) { server in
                try await bed.undisturbed(server, .certificate("odd")) {
                    _ = try await bed.expectRefusal(try bed.credentials.uri(server, .laptop))
                    try await bed.expectLog(server, ["CN=laptop,O=Example Home,C=GB, which is not allowed"])
                }
                try await bed.expectLog(server, ["TLS", " with \(name)"])
            }
        }
    }

    @Test func `wrong keys and unknown users look the same from outside, and only the log tells them apart`()
        async throws
    {
        try await TLSTestBed.run { bed in
            try await bed.serve(bed.keys) { server in
                try await bed.undisturbed(server, .alice) {
                    for (index, version) in [TLSCredentials.Version.old, .new].enumerated() {
                        var errors: Set<String> = []
                        for user in ["alice", "mallory"] {
                            let uri = try bed.credentials.uri(server, .key(user, in: "wrong"))
                            errors.insert(try await bed.expectRefusal(uri, version))
                        }
                        #expect(errors.count == 1, "\(errors)")
                        let file = bed.credentials.file("right/keys.psk")
                        for sentence in [
                            "the client has another key for the user \"alice\" than \(file)",
                            "the client uses the pre-shared key of \"mallory\", whom \(file) does not name",
                        ] { try await bed.expectLog(server, ["TLS failed: \(sentence)"], count: index + 1) }
                    }
                    // Who has no key at all; and a client that counts on certificates.
                    _ = try await bed.expectRefusal(try bed.credentials.uri(server, .laptop))
                    try await bed.expectLog(server, ["no credentials or ciphers of the kind", "--tls-psk"])
                }
            }
        }
    }

    @Test func `a client in the clear is told to use TLS, and one with TLS that the server has none`() async throws {
        try await TLSTestBed.run { bed in
            try await bed.serve(bed.keys) { server in
                try await bed.undisturbed(server, .alice) {
                    let nbdinfo = try await Tool.run("nbdinfo", ["nbd://localhost:\(try #require(server.port))"])
                    #expect(nbdinfo.code == 1 && nbdinfo.output.contains("without TLS"), "\(nbdinfo.errors)")
                    let qemu = try await Tool.run("qemu-img", ["info", "nbd://localhost:\(try #require(server.port))"])
                    #expect(qemu.code == 1 && qemu.errors.contains("this server wants TLS first"), "\(qemu.errors)")
                }
            }
            try await bed.serve(bed.keys + ["--tls=allow"]) { server in
                try await bed.undisturbed(server, .alice) {
                    let plain = try LibNBDClient("nbd://localhost:\(try #require(server.port))")
                    #expect(Difference.describe(try plain.read(bed.contents.count, at: 0), bed.contents) == nil)
                }
            }
            try await bed.serve(bed.certificates() + ["--tls=off"]) { server in
                let plain = try LibNBDClient(server.uri)
                _ = try await bed.expectRefusal(try bed.credentials.uri(server, .laptop))
                let qemu = try await Tool.run(
                    "qemu-img", ["info"] + (try bed.credentials.qemuArguments(server, .laptop)))
                #expect(qemu.code == 1 && qemu.errors.contains("this server has no TLS"), "\(qemu.errors)")
                try await bed.abuse(server, "off_starttls", [bed.image])
                #expect(Difference.describe(try plain.read(bed.contents.count, at: 0), bed.contents) == nil)
            }
        }
    }
}
