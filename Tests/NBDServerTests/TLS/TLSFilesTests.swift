// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Testing

@testable import NBDServer

@Suite struct TLSFilesTests {
    private func expectError(
        _ sentence: String, _ path: String, _ body: () throws -> Void, location: SourceLocation = #_sourceLocation
    ) {
        let expected = sentence.replacingOccurrences(of: "PATH", with: path)
        let error = #expect(throws: TLSError.self, sourceLocation: location, performing: body)
        #expect(error?.description == expected, sourceLocation: location)
    }

    // MARK: Certificates

    private func context(_ directory: String, verifiesPeer: Bool = true) throws -> TLSContext {
        try TLSContext(
            certificates: TLSCertificates(directory: directory, verifiesPeer: verifiesPeer), preSharedKeys: nil)
    }

    @Test func `without credentials there is no TLS`() {
        expectError("TLS needs credentials; give certificates DIR or preSharedKeys FILE", "") {
            _ = try TLSContext(certificates: nil, preSharedKeys: nil)
        }
    }

    @Test func `a list of names without a check of certificates is a mistake`() throws {
        let certificates = try TLSCredentials.server(allowedNames: ["CN=laptop"])
        expectError("allowedNames needs client certificates; give verifiesPeer, too", "") {
            _ = try TLSContext(certificates: certificates, preSharedKeys: nil)
        }
    }

    @Test(arguments: ["server-cert.pem", "server-key.pem", "ca-cert.pem"])
    func `a missing file is named`(name: String) throws {
        let directory = try TLSCredentials.copy("server")
        try FileManager.default.removeItem(atPath: "\(directory)/\(name)")
        expectError(
            "cannot open PATH/\(name): No such file or directory; make it, or correct certificates", directory
        ) { _ = try context(directory) }
    }

    @Test func `the authority is needed only to check clients`() throws {
        let directory = try TLSCredentials.copy("server")
        try FileManager.default.removeItem(atPath: "\(directory)/ca-cert.pem")
        #expect(try context(directory, verifiesPeer: false).warnings.isEmpty)
    }

    @Test func `whether revoked certificates are known is told where clients show theirs`() throws {
        let (with, without) = (try TLSCredentials.directory("server-crl"), try TLSCredentials.directory("server"))
        #expect(try context(with).notices == ["certificates that \(with)/ca-crl.pem revokes (1 list) are refused"])
        #expect(
            try context(without).notices
                == ["there is no \(without)/ca-crl.pem, so that no client's certificate is taken for revoked"])
        #expect(try context(without, verifiesPeer: false).notices.isEmpty)
    }

    @Test(arguments: [(nil, ""), (["CN=laptop"], ", and for no name")] as [([String]?, String)])
    func `that a key of the file replaces a certificate is told`(names: [String]?, end: String) throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "psk-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try PreSharedKeys.makeFile(path, user: "alice")
        let keys = try PreSharedKeys(path: path)
        let certificates = try TLSCredentials.server(verifiesPeer: true, allowedNames: names)
        #expect(
            try TLSContext(certificates: certificates, preSharedKeys: keys).notices.last
                == "a client gets in with a certificate or with a key of \(path): who has such a key is asked for no "
                + "certificate\(end)")
        #expect(try TLSContext(certificates: nil, preSharedKeys: keys).notices.isEmpty)
        let own = try TLSCredentials.server()
        #expect(try TLSContext(certificates: own, preSharedKeys: keys).notices.isEmpty)
    }

    @Test func `a key of another certificate is refused`() throws {
        let directory = try TLSCredentials.copy("server")
        try replace("\(directory)/server-key.pem", with: TLSCredentials.directory("laptop") + "/client-key.pem")
        expectError(
            "PATH/server-key.pem cannot be used: key values mismatch; "
                + "it must be the key of the certificate in server-cert.pem beside it", directory
        ) { _ = try context(directory) }
    }

    @Test func `a key with a passphrase is refused, and nobody is asked for it`() throws {
        let directory = try TLSCredentials.copy("server")
        let key = "\(directory)/server-key.pem"
        let made = try ShortProgram.run(
            "openssl", ["pkcs8", "-topk8", "-in", key, "-out", "\(key).new", "-passout", "pass:secret"])
        try #require(made.status == 0, "\(made.output)")
        try replace(key, with: "\(key).new")
        expectError(
            "PATH/server-key.pem is protected by a passphrase, which nobody can give to a server that starts by itself; "
                + "put a key without one there, as openssl pkey writes it", directory
        ) { _ = try context(directory) }
    }

    @Test(arguments: [
        ("server-cert.pem", "holds no certificate in PEM form; put one there"),
        ("ca-cert.pem", "holds no certificate in PEM form; put one there"),
        ("ca-crl.pem", "holds no list of revoked certificates in PEM form; put one there"),
    ])
    func `a file without anything in PEM form is refused`(name: String, sentence: String) throws {
        let directory = try TLSCredentials.copy("server-crl")
        try Data("nothing\n".utf8).write(to: URL(fileURLWithPath: "\(directory)/\(name)"))
        expectError("PATH/\(name) \(sentence)", directory) { _ = try context(directory) }
    }

    @Test(arguments: ["server-cert.pem", "ca-cert.pem", "ca-crl.pem"])
    func `a damaged file is refused`(name: String) throws {
        let directory = try TLSCredentials.copy("server-crl")
        let url = URL(fileURLWithPath: "\(directory)/\(name)")
        var text = String(decoding: try Data(contentsOf: url), as: UTF8.self)
        let begin = try #require(text.range(of: "-----\n")).upperBound
        text.replaceSubrange(begin..<text.index(begin, offsetBy: 8), with: "AAAAAAAA")
        try Data(text.utf8).write(to: url)
        let error = try #require(throws: TLSError.self) { _ = try context(directory) }
        #expect(error.description.hasPrefix("\(url.path) cannot be used: "))
        #expect(error.description.hasSuffix("1 in it must be in PEM form"))
    }

    @Test func `a large file is not read`() throws {
        let directory = try TLSCredentials.copy("server")
        try Data(count: 1 << 20 + 1).write(to: URL(fileURLWithPath: "\(directory)/ca-cert.pem"))
        expectError(
            "PATH/ca-cert.pem has 1048577 bytes, and at most 1048576 are read; correct certificates", directory
        ) { _ = try context(directory) }
    }

    @Test func `what is not a file is refused without waiting for it`() throws {
        let directory = try TLSCredentials.copy("server")
        try FileManager.default.removeItem(atPath: "\(directory)/server-key.pem")
        try #require(unsafe mkfifo("\(directory)/server-key.pem", 0o600) == 0)
        expectError("PATH/server-key.pem is not a regular file; correct certificates", directory) {
            _ = try context(directory)
        }
    }

    @Test func `sound credentials give no warning`() throws {
        #expect(try context(TLSCredentials.directory("server-crl")).warnings.isEmpty)
        #expect(try TLSCredentials.keys().warnings.isEmpty)
    }

    @Test func `an expired certificate of the server is a warning`() throws {
        let directory = try TLSCredentials.directory("server-expired")
        #expect(
            try context(directory).warnings == [
                "the certificate in \(directory)/server-cert.pem has expired, so clients will refuse it; renew it"
            ])
    }

    @Test func `a certificate for another purpose is a warning`() throws {
        let directory = try TLSCredentials.directory("server-client")
        #expect(
            try context(directory).warnings == [
                "the certificate in \(directory)/server-cert.pem is not for a server, so clients will refuse it; "
                    + "make one for the purpose serverAuth"
            ])
    }

    @Test func `files that everybody can read are a warning`() throws {
        let directory = try TLSCredentials.copy("server")
        let key = "\(directory)/server-key.pem"
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: key)
        #expect(
            try context(directory).warnings == ["every user of this machine can read the key in \(key); chmod 600 it"])
        let keys = try TLSCredentials.keys().path
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: keys)
        let warning = "every user of this machine can read the keys in \(keys); chmod 600 it"
        #expect(
            try TLSContext(certificates: nil, preSharedKeys: PreSharedKeys(path: keys)).warnings == [warning])
    }

    private func replace(_ path: String, with other: String) throws {
        try FileManager.default.removeItem(atPath: path)
        try FileManager.default.copyItem(atPath: other, toPath: path)
    }

    // MARK: Pre-shared keys

    private func key(of name: String, _ text: String) throws -> [UInt8]? {
        try PreSharedKeys(path: TLSCredentials.file("keys.psk", text))
            .withKey(of: Array(name.utf8)) { [UInt8](copying: $0) }
    }

    private static let digits = "000102030405060708090a0b0c0d0e0F"
    private static let bytes = [UInt8](0..<16)

    @Test(arguments: [
        ("alice", "alice:\(digits)"), ("alice", "alice:\(digits)\r\n"), ("alice", "\n# users\n\n \talice:\(digits) \n"),
        ("alice", "# bob:\(digits)\nalice:\(digits)\nbob:\(digits)\(digits)\n"), ("alice", "#616c696365:\(digits)\n"),
        ("a:b c", "a:b c:\(digits)"), ("Käse", "Käse:\(digits)"),
    ])
    func `a key is found however the file is laid out`(name: String, text: String) throws {
        #expect(try key(of: name, text) == Self.bytes)
    }

    @Test func `nobody else has a key`() throws {
        for name in ["", "alic", "alicea", "Alice", "# bob", "bob"] {
            #expect(try key(of: name, "alice:\(Self.digits)\n# bob:\(Self.digits)") == nil)
        }
    }

    @Test(arguments: [
        ("alice", 1, "is not user:hexkey"),
        ("\n\(digits)", 2, "is not user:hexkey"),
        (":\(digits)", 1, "has a user name of 0 bytes; 1 to 255 are allowed, none zero"),
        (
            "\(String(repeating: "a", count: 256)):\(digits)", 1,
            "has a user name of 256 bytes; 1 to 255 are allowed, none zero"
        ),
        ("a:\(digits)\na:\(digits)", 2, "names a user that has a key already"),
        ("# c\n\na:\(digits)0", 3, "has a key with an odd number of digits"),
        ("a:\(digits.dropLast(2))", 1, "has a key of 15 bytes; 16 to 512 are allowed"),
        ("a:", 1, "has a key of 0 bytes; 16 to 512 are allowed"),
        ("a:\(String(repeating: "00", count: 513))", 1, "has a key of 513 bytes; 16 to 512 are allowed"),
        ("a:\(digits.dropLast())g", 1, "has a key with something else than hexadecimal digits in it"),
        ("a: \(digits.dropLast())", 1, "has a key with something else than hexadecimal digits in it"),
    ])
    func `a line that is wrong is named by its number and not shown`(text: String, line: Int, sentence: String) throws {
        let path = try TLSCredentials.file("keys.psk", text)
        expectError("PATH, line \(line), \(sentence); psktool -u USER -p PATH writes such lines", path) {
            _ = try PreSharedKeys(path: path)
        }
    }

    @Test(arguments: ["", "\n", "# nothing\n"])
    func `a file without keys is refused`(text: String) throws {
        let path = try TLSCredentials.file("keys.psk", text)
        expectError("PATH holds no key; make one with: psktool -u USER -p PATH", path) {
            _ = try PreSharedKeys(path: path)
        }
    }

    @Test func `a missing file of keys is named`() throws {
        let path = try TLSCredentials.directory("missing.psk")
        expectError("cannot open PATH: No such file or directory; make it, or correct preSharedKeys", path) {
            _ = try PreSharedKeys(path: path)
        }
    }

    @Test func `a one-time key is private, random and never written over another file`() throws {
        let paths = try (0..<2).map { _ in try TLSCredentials.directory("new-\(UInt32.random(in: 0...UInt32.max)).psk")
        }
        let keys = try paths.map { path in
            try PreSharedKeys.makeFile(path, user: "nbd")
            let attributes = try FileManager.default.attributesOfItem(atPath: path)
            #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o600)
            return try #require(
                try PreSharedKeys(path: path).withKey(of: Array("nbd".utf8)) { [UInt8](copying: $0) })
        }
        #expect(keys[0].count == 32)
        #expect(keys[0] != keys[1])
        let text = try String(contentsOfFile: paths[0], encoding: .utf8)
        #expect(text == "nbd:\(keys[0].hexadecimal())\n")
        expectError("cannot make PATH for a key: File exists; name a file with preSharedKeys instead", paths[0]) {
            try PreSharedKeys.makeFile(paths[0], user: "nbd")
        }
    }

    @Test func `keys that psktool writes are read`() throws {
        let path = try TLSCredentials.directory("psktool-\(UInt32.random(in: 0...UInt32.max)).psk")
        for user in ["alice", "Käse", "with:colon"] {
            let made = try ShortProgram.run("psktool", ["-u", user, "-p", path])
            try #require(made.status == 0, "\(made.output)")
        }
        let keys = try PreSharedKeys(path: path)
        for user in ["alice", "Käse", "with:colon"] {
            #expect(keys.withKey(of: Array(user.utf8)) { $0.byteCount } == 32, "\(user)")
        }
    }
}
