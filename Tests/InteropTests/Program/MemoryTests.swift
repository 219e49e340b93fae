// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What is in the memory of the program of the secrets that opened an image, and of the keys by which clients connect.
@Suite(.fewAtATime)
struct MemoryTests {
    /// What Helpers/search_memory.py reports.
    private struct Found: Decodable {
        let searched: Int
        /// For each secret, the kinds of mappings that hold pieces of it.
        let found: [String: [String]]
    }

    @Test(arguments: ["--passphrase-file", "--key-file", "--passphrase-fd", "--secret"])
    func `after unlocking, only the volume key is in memory, and only in pages that are locked and never dumped`(
        _ option: String
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory)
        let passphrase = "9aFz-an unusual passphrase of some length-Qk7"
        let path = try await maker.format(passphrase: passphrase)
        let file = try directory.write("passphrase", text: passphrase)
        let line =
            "exec \(try Program.path) serve \(path) --socket \(directory.file("s")) "
            + [
                "--passphrase-fd": "--passphrase-fd 7 7< \(file)",
                "--secret": "--secret 'hex:command:od -An -v -tx1 \(file)'",
            ][option, default: "\(option) \(file)"]
        try await ServerUnderTest.run(["-c", line], program: "/bin/bash", in: directory) { server in
            // Every worker and loop gets a context of the cipher.
            try await Tool.succeed("nbdcopy", [server.uri, "null:"])
            let found = try await search(server, "search_memory.py", path, file)
            #expect(found.searched > 1 << 20)
            #expect(found.found["passphrase"] == [])
            #expect(found.found["keyslot key"] == [])
            #expect(found.found["split key"] == [])
            let key = try #require(found.found["volume key"])
            // It is there: the search finds what there is.
            #expect(!key.isEmpty)
            for place in key { #expect(place.hasSuffix(" locked not dumped"), "\(place)") }
        }
    }

    @Test
    func `functions are looked up at the start: later the dynamic linker would save registers with keys on a stack`()
        async throws
    {
        let sections = try await Tool.succeed("readelf", ["-d", try Program.path])
        #expect(sections.contains("BIND_NOW"), "\(sections)")
    }

    @Test(arguments: ["rsa:3072", "ec", "ed25519"])
    func `the server's private key and pre-shared keys are in memory only in pages that are locked and never dumped`(
        _ kind: String
    ) async throws {
        try await TLSTestBed.run { bed in
            let server = bed.credentials.file("server")
            // The authority signs a key of this kind. A pre-shared key that is like no other.
            let options = kind == "ec" ? "-newkey ec -pkeyopt ec_paramgen_curve:P-256" : "-newkey \(kind)"
            try await Tool.shell(
                """
                cd \(server)
                openssl req -x509 \(options) -nodes -keyout server-key.pem -out server-cert.pem -days 9 -subj /CN=localhost \
                    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=CA:false \
                    -addext extendedKeyUsage=serverAuth 2> /dev/null
                cat server-cert.pem > \(bed.credentials.file("anonymous"))/ca-cert.pem
                printf 'alice:%s\\n' $(openssl rand -hex 32) > \(bed.credentials.file("right"))/keys.psk
                """)
            try await bed.serve(bed.certificates() + bed.keys) { server in
                for version in [TLSCredentials.Version.old, .new] {
                    for client in [TLSCredentials.Client.certificate("anonymous"), .alice] {
                        let uri = try bed.credentials.uri(server, client)
                        try await Tool.succeed(
                            "nbdcopy", [uri, "null:"], environment: bed.credentials.environment(version))
                    }
                }
                // Also while clients are connected: one with each kind of credentials.
                let clients = try [TLSCredentials.Client.certificate("anonymous"), .alice].map {
                    try LibNBDClient(try bed.credentials.uri(server, $0))
                }
                let found = try await search(
                    server, "search_tls_memory.py", bed.credentials.file("server/server-key.pem"),
                    bed.credentials.file("right/keys.psk"))
                #expect(clients.allSatisfy { $0.size == bed.contents.count })
                #expect(found.searched > 1 << 20)
                #expect(found.found["text of the key"] == [])
                #expect(found.found["text of the pre-shared key"] == [])
                let places = found.found.filter { !$0.key.hasPrefix("text") }.flatMap { $0.value }
                for place in places { #expect(place.hasSuffix(" locked not dumped"), "\(found.found)") }
                // They are there: the search finds what there is.
                #expect(found.found["pre-shared key"]?.isEmpty == false)
                let key = kind == "ed25519" ? "key" : "key in words"
                #expect(found.found[key]?.isEmpty == false, "\(found.found)")
            }
        }
    }

    /// Nobody but root may read the memory of the program.
    private func search(_ server: ServerUnderTest, _ helper: String, _ files: String...) async throws -> Found {
        let script = [Program.helper(helper), "\(server.processIdentifier)"] + files
        let output =
            geteuid() == 0
            ? try await Tool.succeed("python3", script)
            : try await Tool.succeed("sudo", ["-n", "python3"] + script)
        return try JSONDecoder().decode(Found.self, from: Data(output.utf8))
    }
}
