// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CTLS
import Testing

@testable import NBDServer

@Suite struct TLSHandshakeTests {
    static let versions: [Int32] = [TLS1_2_VERSION, TLS1_3_VERSION]

    private func client(_ name: String, _ version: Int32 = 0) throws -> TLSPair.Client {
        TLSPair.Client(version: version, credentials: try TLSCredentials.directory(name))
    }

    private func context(
        _ server: String = "server", verifiesPeer: Bool = false, allowedNames: [String]? = nil
    ) throws -> TLSContext {
        try TLSContext(
            certificates: TLSCredentials.server(server, verifiesPeer: verifiesPeer, allowedNames: allowedNames),
            preSharedKeys: nil)
    }

    /// Who fails, and how, on both sides.
    private func expectRefusal(
        _ context: TLSContext, _ client: TLSPair.Client, client clientError: String, server reason: String,
        location: SourceLocation = #_sourceLocation
    ) throws {
        let pair = try TLSPair(context, client)
        let outcome = try pair.shakeHands()
        guard case .failed(let found) = outcome.server else { throw TLSPair.Stuck() }
        #expect(found.description == reason, sourceLocation: location)
        #expect(outcome.client == clientError, sourceLocation: location)
        #expect(pair.session.peerName == nil, sourceLocation: location)
        // Nothing is sent or received over what has failed.
        #expect(pair.serverSend([1]) == .closed, sourceLocation: location)
        #expect(pair.session.handshake() == .failed(reason: "the TLS handshake has failed before"))
    }

    @Test(arguments: versions)
    func `a client that trusts the authority connects and need not show who it is`(version: Int32) throws {
        let pair = try TLSPair(context(), client("laptop", version))
        try pair.connect()
        #expect(pair.session.peerName == nil)
        let parameters = try #require(pair.session.parameters)
        #expect(
            parameters
                == (version == TLS1_2_VERSION
                    ? "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256" : "TLSv1.3 TLS_AES_128_GCM_SHA256"))
    }

    @Test(arguments: [TLS1_VERSION, TLS1_1_VERSION])
    func `TLS before 1 2 is refused`(version: Int32) throws {
        var settings = try client("laptop", version)
        settings.suites = "ALL:@SECLEVEL=0"
        try expectRefusal(
            context(), settings, client: "tlsv1 alert protocol version",
            server: "the client has no newer TLS than 1.1; use a client that has TLS 1.2 or 1.3")
    }

    @Test(arguments: ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256"])
    func `cipher suites without authenticated encryption or forward secrecy are refused`(suite: String) throws {
        var settings = try client("laptop", TLS1_2_VERSION)
        settings.suites = suite
        let pair = try TLSPair(context(), settings)
        let outcome = try pair.shakeHands()
        #expect(outcome.client == "sslv3 alert handshake failure")
        guard case .failed(let reason) = outcome.server else { throw TLSPair.Stuck() }
        #expect(reason.description.contains("no shared cipher"))
    }

    @Test(arguments: versions)
    func `a client with a certificate of the authority is let in, and known by name`(version: Int32) throws {
        let pair = try TLSPair(context(verifiesPeer: true), client("laptop", version))
        try pair.connect()
        #expect(pair.session.peerName == "CN=laptop,O=Example Home,C=GB")
    }

    @Test(arguments: versions)
    func `a client that does not trust the server hangs up`(version: Int32) throws {
        let settings = TLSPair.Client(version: version, credentials: try TLSCredentials.directory("other"))
        try expectRefusal(
            context(), settings, client: "certificate verify failed",
            server: "the client does not trust server-cert.pem (tlsv1 alert unknown ca); "
                + "it needs the ca-cert.pem that signed it")
    }

    @Test(arguments: versions)
    func `a client without a certificate is refused where one is demanded`(version: Int32) throws {
        try expectRefusal(
            context(verifiesPeer: true), client("anonymous", version),
            client: version == TLS1_2_VERSION ? "sslv3 alert handshake failure" : "tlsv13 alert certificate required",
            server: "the client showed no certificate, which verifiesPeer demands; give it one")
    }

    @Test(arguments: versions)
    func `a certificate of another authority is refused, although its name is right`(version: Int32) throws {
        try expectRefusal(
            context(verifiesPeer: true, allowedNames: ["CN=laptop,O=Example Home,C=GB"]), client("stranger", version),
            client: "tlsv1 alert unknown ca",
            server: "the client's certificate, for CN=laptop,O=Example Home,C=GB, is refused: "
                + "unable to get local issuer certificate; "
                + "it must be signed by a certificate in ca-cert.pem, for the purpose clientAuth")
    }

    @Test(arguments: versions)
    func `an expired certificate is refused`(version: Int32) throws {
        try expectRefusal(
            context(verifiesPeer: true), client("expired", version), client: "sslv3 alert certificate expired",
            server: "the client's certificate, for CN=expired, is refused: certificate has expired; "
                + "renew it, or check the clock")
    }

    @Test(arguments: versions)
    func `a revoked certificate is refused, and others are not`(version: Int32) throws {
        let context = try context("server-crl", verifiesPeer: true)
        try expectRefusal(
            context, client("revoked", version), client: "sslv3 alert certificate revoked",
            server: "the client's certificate, for CN=revoked, is refused: certificate revoked; ca-crl.pem lists it")
        try TLSPair(context, client("laptop", version)).connect()
        // Without the list, the certificate is good.
        try TLSPair(self.context(verifiesPeer: true), client("revoked", version)).connect()
    }

    @Test(arguments: versions)
    func `a certificate that is not for clients is refused`(version: Int32) throws {
        try expectRefusal(
            context(verifiesPeer: true), client("purpose", version), client: "sslv3 alert unsupported certificate",
            server: "the client's certificate, for CN=purpose, is refused: unsuitable certificate purpose; "
                + "it must be signed by a certificate in ca-cert.pem, for the purpose clientAuth")
    }

    @Test(arguments: versions)
    func `a certificate of an authority below the trusted one is good, also when that one alone is trusted`(
        version: Int32
    ) throws {
        try TLSPair(context(verifiesPeer: true), client("below", version)).connect()
        let other = try context("server-middle", verifiesPeer: true)
        try TLSPair(other, client("below", version)).connect()
        #expect(try TLSPair(other, client("laptop", version)).shakeHands().client == "tlsv1 alert unknown ca")
    }

    @Test(arguments: versions)
    func `a name that is not on the list is refused during the handshake`(version: Int32) throws {
        try expectRefusal(
            context(verifiesPeer: true, allowedNames: ["CN=server,O=Example Home,C=GB", "CN=laptop", "C=GB"]),
            client("laptop", version), client: "sslv3 alert handshake failure",
            server: "the client's certificate is for CN=laptop,O=Example Home,C=GB, which is not allowed; "
                + "if it should be, add allowedNames CN=laptop,O=Example Home,C=GB")
    }

    @Test func `nobody is on an empty list`() throws {
        let outcome = try TLSPair(context(verifiesPeer: true, allowedNames: []), client("laptop")).shakeHands()
        #expect(outcome.client == "sslv3 alert handshake failure")
    }

    @Test(arguments: [
        "CN=laptop,O=Example Home,C=GB", "cn = laptop, o = Example Home, c = GB",
        #"2.5.4.3=laptop,O=\45xample\ Home,C=GB"#,
    ])
    func `a name on the list is let in, however it is written`(name: String) throws {
        let context = try context(verifiesPeer: true, allowedNames: ["CN=other", name])
        try TLSPair(context, client("laptop")).connect()
    }

    @Test func `a name with commas, UTF-8 and several attributes in a component is matched as a whole`() throws {
        let name = #"CN=\ #1 \"lap\\top\",OU=Käse+UID=7,O=Example\, Home \+ Garden,C=GB"#
        let pair = try TLSPair(context(verifiesPeer: true, allowedNames: [name]), client("odd"))
        try pair.connect()
        let shown = try #require(pair.session.peerName)
        #expect(try DistinguishedName(shown) == DistinguishedName(name))
        // What is shown can be given back.
        try TLSPair(context(verifiesPeer: true, allowedNames: [shown]), client("odd")).connect()
    }

    @Test(arguments: [
        "GET / HTTP/1.0\r\n\r\n", "IHAVEOPT\u{0}\u{0}\u{0}\u{7}\u{0}\u{0}\u{0}\u{0}",
        String(repeating: "\u{0}", count: 64),
    ])
    func `something else than TLS is refused with a reason`(text: String) throws {
        let pair = try TLSPair(context(), TLSPair.Client())
        try pair.sendRaw(Array(text.utf8))
        guard case .failed(let reason) = pair.session.handshake() else { throw TLSPair.Stuck() }
        #expect(reason.description.hasPrefix("the client asked for TLS and then sent something else ("))
    }

    @Test func `a client that hangs up in the handshake is told apart`() throws {
        let pair = try TLSPair(context(), TLSPair.Client())
        #expect(pair.session.handshake() == .wantsRead)
        pair.hangUp()
        #expect(pair.session.handshake() == .failed(reason: "the client hung up during the TLS handshake"))
    }

    @Test func `nothing can be sent or received before the handshake`() throws {
        let pair = try TLSPair(context(), TLSPair.Client())
        #expect(pair.serverSend([1]) == .closed)
        #expect(!pair.session.hasPending)
        #expect(pair.session.peerName == nil)
        #expect(pair.session.parameters == nil)
    }
}
