// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Where the server may listen, and where it refuses to.
@Suite(.fewAtATime)
struct ListeningTests {
    @Test func `a socket that a dead server left behind is replaced`() async throws {
        try await SmallDisk.with { disk, image in
            let path = disk.directory.file("s")
            try await Tool.succeed("python3", ["-c", "import socket; socket.socket(socket.AF_UNIX).bind('\(path)')"])
            #expect(File.exists(path))
            try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { server in
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `a socket left by a killed nbdecrypt is replaced`() async throws {
        try await SmallDisk.with { disk, image in
            await #expect(throws: CancellationError.self) {
                // The body fails, so the server is killed.
                try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { _ in
                    throw CancellationError()
                }
            }
            #expect(File.exists(disk.directory.file("s")))
            try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { server in
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `a live socket is not replaced, and its server goes on`() async throws {
        try await SmallDisk.with { disk, image in
            try await ServerUnderTest.run(["serve", image] + disk.socket, in: disk.directory) { server in
                try await Program.expectRefusal(
                    ["serve", image] + disk.socket, status: 66, saying: disk.directory.file("s"),
                    "in use by a running server", "--socket")
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `a file that is no socket is not replaced`() async throws {
        try await SmallDisk.with { disk, image in
            try disk.directory.write("s", text: "precious")
            try await Program.expectRefusal(
                ["serve", image] + disk.socket, status: 66, saying: "is not a socket", "--socket")
            let text = try File.text(disk.directory.file("s"))
            #expect(text == "precious")
        }
    }

    @Test func `an IPv6 address may be in brackets, as in a URI`() async throws {
        try await SmallDisk.with { disk, image in
            let outcome = try await Program.run(
                ["serve", image, "--bind", "[::1]", "--port", "0", "--run", "echo $uri; nbdinfo --size $uri"])
            #expect(outcome.code == 0 && outcome.output.hasPrefix("nbd://[::1]:"), "\(outcome.errors)")
            #expect(outcome.output.hasSuffix("/\n\(disk.contents.count)\n"), "\(outcome.output)")
        }
    }

    @Test func `a socket path that is too long or in no directory is refused with 66`() async throws {
        try await SmallDisk.with { disk, image in
            let long = disk.directory.file(String(repeating: "x", count: 108))
            try await Program.expectRefusal(
                ["serve", image, "--socket", long], status: 66, saying: "longer than 107 bytes")
            try await Program.expectRefusal(
                ["serve", image, "--socket", disk.directory.file("none/s")], status: 66, saying: "No such file")
            let longest = disk.directory.file(String(repeating: "x", count: 107 - disk.directory.path.utf8.count - 1))
            try await ServerUnderTest.run(["serve", image, "--socket", longest], in: disk.directory) { server in
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `the Unix socket is for its owner alone, whatever the umask`() async throws {
        try await SmallDisk.with { disk, image in
            let line = "umask 0; exec \(try Program.path) serve \(image) --socket \(disk.directory.file("s"))"
            try await ServerUnderTest.run(["-c", line], program: "/bin/sh", in: disk.directory) { _ in
                let mode = try File.mode(disk.directory.file("s"))
                #expect(mode & 0o077 == 0)
            }
        }
    }

    @Test(arguments: ["0.0.0.0", "::"])
    func `an address that other machines can reach needs --insecure-plaintext`(_ address: String) async throws {
        try await SmallDisk.with { disk, image in
            try await Program.expectRefusal(
                ["serve", image, "--bind", address, "--port", "0"], status: 64, saying: "--insecure-plaintext", "clear")
            try await ServerUnderTest.run(
                ["serve", image, "--bind", address, "--port", "0", "--insecure-plaintext"], in: disk.directory
            ) { server in
                let host = address == "::" ? "[::1]" : "127.0.0.1"
                let port = try #require(server.port)
                let client = try LibNBDClient("nbd://\(host):\(port)")
                #expect(client.size == disk.contents.count)
                #expect(server.uri == "nbd://HOST:\(port)/", "clients know which of its addresses reaches this machine")
            }
            let outcome = try await Program.run(
                ["serve", image, "--bind", address, "--port", "0", "--insecure-plaintext"]
                    + ["--run", "nbdinfo --size \"$uri\""])
            #expect(outcome.output == "\(disk.contents.count)\n", "a command on this machine is told one that works")
        }
    }

    @Test func `a port in use is refused with 66, and its server goes on`() async throws {
        try await SmallDisk.with { disk, image in
            try await ServerUnderTest.run(["serve", image, "--port", "0"], in: disk.directory) { server in
                let port = try #require(server.port)
                try await Program.expectRefusal(
                    ["serve", image, "--port", "\(port)"], status: 66, saying: "\(port)", "in use", "--port")
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `an address of no interface here, or a name of no machine, is refused with 66`() async throws {
        try await SmallDisk.with { disk, image in
            try await Program.expectRefusal(
                ["serve", image, "--bind", "192.0.2.1", "--insecure-plaintext"], status: 66, saying: "192.0.2.1")
            try await Program.expectRefusal(
                ["serve", image, "--bind", "no.such.machine.invalid"], status: 66, saying: "no.such.machine.invalid")
        }
    }

    @Test func `the default address is 127.0.0.1, which no other address reaches`() async throws {
        try await SmallDisk.with { disk, image in
            try await ServerUnderTest.run(["serve", image, "--port", "0"], in: disk.directory) { server in
                #expect(server.uri.hasPrefix("nbd://127.0.0.1:"))
                let port = try #require(server.port)
                let listeners = try SocketTable.tcp(port: port).filter { $0.state == SocketTable.tcpListening }
                // Little-endian.
                #expect(listeners.count == 1 && listeners[0].address.hasPrefix("0100007F:"))
            }
        }
    }

    @Test(arguments: ["XDG_RUNTIME_DIR", "TMPDIR"])
    func `the private directory is made in XDG_RUNTIME_DIR, else in TMPDIR`(_ variable: String) async throws {
        try await SmallDisk.with { disk, image in
            var environment: [String: String?] = ["XDG_RUNTIME_DIR": nil as String?, "TMPDIR": "/nonexistent"]
            environment[variable] = disk.directory.path
            try await ServerUnderTest.run(["serve", image], environment: environment, in: disk.directory) { server in
                #expect(server.socketPath?.hasPrefix("\(disk.directory.path)/nbdecrypt-") == true)
                try server.expectContents(disk.contents)
            }
            let left = try FileManager.default.contentsOfDirectory(atPath: disk.directory.path)
            #expect(!left.contains { $0.hasPrefix("nbdecrypt-") })
            try await Program.expectRefusal(
                ["serve", image], status: 66, saying: "/nonexistent", "--socket",
                environment: ["XDG_RUNTIME_DIR": nil as String?, "TMPDIR": "/nonexistent"])
        }
    }
}
