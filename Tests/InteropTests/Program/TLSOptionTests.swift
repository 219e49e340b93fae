// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The options for TLS: who has to use it, and the key that is made for one run.
@Suite(.fewAtATime)
struct TLSOptionTests {
    @Test func `options that have no effect together, or lack something, are told apart from wrong files`() async throws
    {
        for (options, part) in [
            (["--tls=require"], "add --tls-psk=auto or --tls-certs"),
            (["--tls=allow"], "add --tls-psk=auto or --tls-certs"), (["--tls=maybe"], "--tls"),
            (["--tls-verify-peer"], "add --tls-certs"), (["--tls-verify-peer", "--tls-psk=auto"], "add --tls-certs"),
            (["--tls-certs", "d", "--tls-allow-dn", "CN=a"], "add --tls-verify-peer"),
            (["--tls-certs", "d", "--tls-verify-peer", "--tls=allow"], "lets in clients without TLS"),
            (["--tls-certs", "d", "--tls-verify-peer", "--tls=off"], "lets in clients without TLS"),
            (["--tls-certs", ""], "--tls-certs takes"), (["--tls-psk", ""], "--tls-psk takes"),
            (["--tls-certs", "d", "--tls-verify-peer", "--tls-allow-dn", ""], "--tls-allow-dn takes"),
        ] {
            let outcome = try await Program.run(["serve", "image"] + options)
            #expect(outcome.code == 64, "\(options)")
            #expect(outcome.errors.contains(part), "\(options): \(outcome.errors)")
        }
    }

    @Test func `keys and certificates that cannot be used are refused with 66, before a passphrase is asked for`()
        async throws
    {
        try await withDisk { disk in
            let image = try await disk.encrypted()
            let none = disk.directory.file("none")
            let bad = try disk.directory.write("bad", text: "alice\n")
            for options in [["--tls-certs", none], ["--tls-psk", none], ["--tls-psk", bad]] {
                // No terminal: a passphrase that is asked for is a refusal with 77.
                try await Program.expectRefusal(["serve", image] + options, status: 66, saying: disk.directory.path)
            }
        }
    }

    @Test func `a file without keys gets one by the command that the refusal prints`() async throws {
        try await withDisk { disk in
            let image = try disk.raw()
            let keys = try disk.directory.write("keys.psk", text: "")
            let serve = ["serve", "-f", "raw", image, "--tls-psk", keys, "--run", "true"]
            let refused = try await Program.run(serve)
            let begin = try #require(refused.errors.range(of: "make one with: "), "\(refused.errors)")
            try await Tool.shell(String(refused.errors[begin.upperBound...]).replacing("USER", with: "alice"))
            let served = try await Program.run(serve)
            #expect(served.code == 0, "\(served.errors)")
        }
    }

    @Test func `where TLS is a must, clients that do without are let nowhere, and others see the disk`() async throws {
        try await withDisk { disk in
            try await serve(disk, ["--tls-psk=auto", "--port", "0"]) { server in
                let port = try #require(server.port)
                #expect(throws: LibNBDClient.Failed.self) { try LibNBDClient("nbd://127.0.0.1:\(port)") }
                let size = try await Tool.succeed("nbdinfo", ["--size", server.uri])
                #expect(size == "\(disk.contents.count)\n")
            }
        }
    }

    @Test func `where TLS is allowed, clients may do without; where it is off, no key is made`() async throws {
        try await withDisk { disk in
            for mode in ["allow", "off"] {
                try await serve(disk, ["--tls-psk=auto", "--tls=\(mode)", "--port", "0"]) { server in
                    let port = try #require(server.port)
                    #expect(server.uri.hasPrefix(mode == "allow" ? "nbds://" : "nbd://"))
                    let client = try LibNBDClient("nbd://127.0.0.1:\(port)")
                    #expect(client.size == disk.contents.count)
                    let size = try await Tool.succeed("nbdinfo", ["--size", server.uri])
                    #expect(size == "\(disk.contents.count)\n")
                    #expect(try keyFile(server) == nil || mode == "allow")
                }
            }
        }
    }

    @Test func `addresses that others can reach need no --insecure-plaintext where TLS is a must`() async throws {
        try await withDisk { disk in
            let image = try await disk.plain()
            for (place, mode) in [(["--bind", "0.0.0.0", "--port", "0"], "allow"), (["--vsock", "0"], "off")] {
                let options = place + ["--tls-psk=auto"]
                try await Program.expectRefusal(
                    ["serve", image, "--tls=\(mode)"] + options, status: 64, saying: "in the clear", "--tls=require",
                    "--insecure-plaintext")
                let outcome = try await Program.run(["serve", image, "--run", "echo \"$uri\""] + options)
                #expect(outcome.code == 0 && outcome.output.hasPrefix("nbds"), "\(outcome.errors)")
            }
        }
    }

    @Test(arguments: [[], ["--port", "0"]])
    func `a key for one run is new, for its user alone, in no message, and gone at the end`(_ place: [String])
        async throws
    {
        try await withDisk { disk in
            var keys: Set<String> = []
            for _ in 0..<2 {
                var (path, key) = ("", "")
                let outcome = try await serve(disk, place + ["--tls-psk=auto", "-v", "-v"]) { server in
                    path = try #require(try keyFile(server))
                    #expect(server.uri.contains("://nbdecrypt@") && server.uri.hasSuffix("tls-psk-file=\(path)"))
                    let modes = try (File.mode(path), File.mode((path as NSString).deletingLastPathComponent))
                    #expect(modes == (0o600, 0o700))
                    let text = try File.text(path)
                    key = String(try #require(text.wholeMatch(of: /nbdecrypt:([0-9a-f]{64})\n/)).1)
                    try await Tool.succeed("nbdinfo", ["--size", server.uri])
                }
                #expect(!key.isEmpty && !outcome.output.contains(key) && !outcome.errors.contains(key))
                #expect(!File.exists((path as NSString).deletingLastPathComponent))
                keys.insert(key)
            }
            #expect(keys.count == 2)
        }
    }

    @Test func `a key for one run is gone when the image cannot be opened, too`() async throws {
        try await withDisk { disk in
            let environment: [String: String?] = ["XDG_RUNTIME_DIR": disk.directory.path]
            try await Program.expectRefusal(
                ["serve", disk.directory.file("none"), "--tls-psk=auto"], status: 66, saying: "No such file",
                environment: environment)
            let left = try FileManager.default.contentsOfDirectory(atPath: disk.directory.path)
            #expect(left.isEmpty, "\(left)")
        }
    }

    @Test func `a key for one run is gone when the program is ended before it serves, too`() async throws {
        try await withDisk { disk in
            let runtime = disk.directory.file("runtime")
            try FileManager.default.createDirectory(atPath: runtime, withIntermediateDirectories: false)
            // The passphrase never comes.
            let fifo = disk.directory.file("fifo")
            let output = try await Tool.shell(
                """
                mkfifo \(fifo); exec 3<>\(fifo)
                for place in 'nbdecrypt-*' 'nbdecrypt-*' 'nbdecrypt-*' 'nbdecrypt-*/keys.psk'; do
                    \(try Program.path) serve $image --tls-psk=auto --passphrase-file \(fifo) & pid=$!
                    # As soon as it is there.
                    until [ -e \(runtime)/$place ]; do kill -0 $pid; done
                    kill $pid; wait $pid || echo $?
                done
                """, environment: ["XDG_RUNTIME_DIR": runtime, "image": disk.encrypted()])
            #expect(output == String(repeating: "143\n", count: 4))
            let left = try FileManager.default.contentsOfDirectory(atPath: runtime)
            #expect(left.isEmpty, "\(left)")
        }
    }

    @Test func `only clients with a certificate of an allowed name are let in`() async throws {
        try await withDisk { disk in
            let credentials = disk.directory.file("tls")
            try await Tool.succeed("\(Program.root)/Tests/Fixtures/make-tls-credentials", [credentials])
            let options = ["--tls-certs", "\(credentials)/server", "--tls-verify-peer", "--port", "0"]
            for (name, fits) in [("CN=laptop,O=Example Home,C=GB", true), ("CN=other", false)] {
                try await serve(disk, options + ["--tls-allow-dn", name]) { server in
                    #expect(server.uri.hasSuffix("/?tls-certificates=DIR"))
                    let uri = server.uri.replacing("DIR", with: "\(credentials)/laptop")
                    let outcome = try await Tool.run("nbdinfo", ["--size", uri])
                    #expect((outcome.code == 0) == fits, "\(outcome.errors)")
                }
            }
        }
    }

    /// The file of keys that an address names.
    private func keyFile(_ server: ServerUnderTest) throws -> String? {
        URLComponents(string: server.uri)?.queryItems?.first { $0.name == "tls-psk-file" }?.value
    }

    @discardableResult
    private func serve(
        _ disk: SmallDisk, _ options: [String], _ body: (ServerUnderTest) async throws -> Void
    ) async throws -> Tool.Outcome {
        try await ServerUnderTest.run(["serve", try await disk.plain()] + options, in: disk.directory, body)
    }

    private func withDisk(_ body: (SmallDisk) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try await body(SmallDisk(directory))
    }
}
