// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CTLS
import Testing

@testable import NBDServer

@Suite struct TLSPreSharedKeyTests {
    private func context(withCertificates: Bool = false) throws -> TLSContext {
        try TLSContext(
            certificates: withCertificates ? TLSCredentials.server(verifiesPeer: true) : nil,
            preSharedKeys: TLSCredentials.keys())
    }

    private func client(_ name: String, _ key: [UInt8], _ version: Int32, _ suites: String = "PSK") -> TLSPair.Client {
        TLSPair.Client(version: version, identity: (name, key), suites: version == TLS1_2_VERSION ? suites : "")
    }

    @Test(arguments: TLSHandshakeTests.versions, [false, true])
    func `a client with the right key is let in, and known by name`(version: Int32, withCertificates: Bool) throws {
        let pair = try TLSPair(
            context(withCertificates: withCertificates), client("alice", TLSCredentials.keyOfAlice, version))
        try pair.connect()
        #expect(pair.session.peerName == "\"alice\"")
        #expect(
            pair.session.parameters
                == (version == TLS1_2_VERSION
                    ? "TLSv1.2 ECDHE-PSK-CHACHA20-POLY1305" : "TLSv1.3 TLS_AES_128_GCM_SHA256"))
    }

    @Test(arguments: ["DHE-PSK-AES128-GCM-SHA256", "DHE-PSK-AES256-GCM-SHA384", "DHE-PSK-CHACHA20-POLY1305"])
    func `keys work with finite fields in TLS 1 2`(suite: String) throws {
        let pair = try TLSPair(context(), client("alice", TLSCredentials.keyOfAlice, TLS1_2_VERSION, suite))
        try pair.connect()
        #expect(pair.session.parameters == "TLSv1.2 \(suite)")
    }

    @Test(arguments: ["PSK-AES128-GCM-SHA256", "ECDHE-PSK-AES128-CBC-SHA256", "RSA-PSK-AES128-GCM-SHA256"])
    func `keys without forward secrecy or authenticated encryption are refused`(suite: String) throws {
        let pair = try TLSPair(context(), client("alice", TLSCredentials.keyOfAlice, TLS1_2_VERSION, suite))
        #expect(try pair.shakeHands().client == "sslv3 alert handshake failure")
    }

    @Test(arguments: TLSHandshakeTests.versions, [false, true])
    func `a client cannot tell an unknown name from a wrong key`(version: Int32, withCertificates: Bool) throws {
        let context = try context(withCertificates: withCertificates)
        let file = try #require(context.preSharedKeys).path
        let wrong = try TLSPair(context, client("alice", [UInt8](0x20..<0x40), version)).shakeHands()
        let unknown = try TLSPair(context, client("eve", TLSCredentials.keyOfAlice, version)).shakeHands()
        #expect(wrong.client == unknown.client)
        #expect(
            wrong.client
                == (version == TLS1_2_VERSION ? "sslv3 alert bad record mac" : "sslv3 alert illegal parameter"))
        #expect(
            wrong.server
                == .failed(reason: "the client has another key for the user \"alice\" than \(file)"))
        #expect(
            unknown.server
                == .failed(
                    reason: "the client uses the pre-shared key of \"eve\", whom \(file) does not name"))
    }

    @Test(arguments: TLSHandshakeTests.versions)
    func `a client without a key is refused when there are no certificates`(version: Int32) throws {
        let outcome = try TLSPair(context(), TLSPair.Client(version: version)).shakeHands()
        #expect(outcome.client == "sslv3 alert handshake failure")
        guard case .failed(let reason) = outcome.server else { throw TLSPair.Stuck() }
        #expect(reason.description.contains("compare certificates and preSharedKeys with what the client is told"))
    }

    @Test(arguments: TLSHandshakeTests.versions)
    func `a client with a certificate connects to a server that has keys, too`(version: Int32) throws {
        let context = try context(withCertificates: true)
        let laptop = TLSPair.Client(version: version, credentials: try TLSCredentials.directory("laptop"))
        let pair = try TLSPair(context, laptop)
        try pair.connect()
        #expect(pair.session.peerName == "CN=laptop,O=Example Home,C=GB")
        let stranger = TLSPair.Client(version: version, credentials: try TLSCredentials.directory("anonymous"))
        guard case .failed = try TLSPair(context, stranger).shakeHands().server else { throw TLSPair.Stuck() }
    }

    @Test(arguments: TLSHandshakeTests.versions, [16, 512])
    func `keys of the least and the greatest length work`(version: Int32, count: Int) throws {
        let key = (0..<count).map { UInt8(truncatingIfNeeded: $0 + 1) }
        let path = try TLSCredentials.file("length.psk", "carol:\(key.hexadecimal())")
        let context = try TLSContext(certificates: nil, preSharedKeys: PreSharedKeys(path: path))
        try TLSPair(context, client("carol", key, version)).connect()
    }

    @Test(arguments: TLSHandshakeTests.versions)
    func `a name is shown so that a terminal does not obey it`(version: Int32) throws {
        let name = "eve\u{1B}[2J\n\u{202E}ok"
        guard
            case .failed(let reason) = try TLSPair(context(), client(name, [UInt8](0..<32), version))
                .shakeHands().server
        else { throw TLSPair.Stuck() }
        #expect(reason.description.contains(#""eve\u{1B}[2J\u{A}\u{202E}ok""#))
    }
}
