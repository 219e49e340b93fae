// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What is left in the memory of the program of the secrets that opened an image.
@Suite("Secrets in memory", .fourAtATime)
struct MemoryTests {
    /// What Helpers/search_memory.py reports.
    private struct Found: Decodable {
        let searched: Int
        /// For each secret, the kinds of mappings that hold pieces of it.
        let found: [String: [String]]
    }

    @Test(
        "After unlocking, only the volume key is in memory, and only in pages that are locked and never dumped",
        arguments: ["--passphrase-file", "--key-file", "--passphrase-fd"])
    func nothingIsLeft(_ option: String) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory)
        let passphrase = "9aFz-an unusual passphrase of some length-Qk7"
        let path = try await maker.format(passphrase: passphrase)
        let file = try directory.write("passphrase", text: passphrase)
        let line =
            "exec \(try Program.path) serve \(path) --socket \(directory.file("s")) "
            + (option == "--passphrase-fd" ? "--passphrase-fd 7 7< \(file)" : "\(option) \(file)")
        try await ServerUnderTest.run(["-c", line], program: "/bin/bash", in: directory) { server in
            // Every worker and loop gets a context of the cipher.
            try await Tool.succeed("nbdcopy", [server.uri, "null:"])
            let found = try await search(server, path, file)
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

    /// Nobody but root may read the memory of the program.
    private func search(_ server: ServerUnderTest, _ path: String, _ passphrase: String) async throws -> Found {
        let script = [Program.helper("search_memory.py"), "\(server.processIdentifier)", path, passphrase]
        let output =
            geteuid() == 0
            ? try await Tool.succeed("python3", script)
            : try await Tool.succeed("sudo", ["-n", "python3"] + script)
        return try JSONDecoder().decode(Found.self, from: Data(output.utf8))
    }
}
