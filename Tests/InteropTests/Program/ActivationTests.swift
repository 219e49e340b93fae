// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Sockets that a service manager passes.
@Suite(.fewAtATime)
struct ActivationTests {
    @Test func `it serves on the socket that it is given, and leaves its path to the service manager`() async throws {
        try await SmallDisk.with { disk, image in
            let path = disk.directory.file("given")
            try await activate("unix", ["serve", image], disk) { server in
                #expect(server.uri == "nbd+unix:///?socket=\(path)")
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `it serves on a TCP socket that it is given`() async throws {
        try await SmallDisk.with { disk, image in
            try await activate("tcp", ["serve", image], disk) { server in
                #expect(server.uri.hasPrefix("nbd://127.0.0.1:"))
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `it serves on all sockets that it is given`() async throws {
        try await SmallDisk.with { disk, image in
            try await activate("two", ["serve", image], disk) { server in
                try server.expectContents(disk.contents)
                let second = try LibNBDClient("nbd+unix:///?socket=\(disk.directory.file("given")).2")
                let found = try second.read(disk.contents.count, at: 0)
                #expect(found == disk.contents)
            }
        }
    }

    @Test func `a socket that other machines can reach needs --insecure-plaintext here too`() async throws {
        try await SmallDisk.with { disk, image in
            try await expectRefusal("everywhere", ["serve", image], disk, 64, "--insecure-plaintext")
            try await activate("everywhere", ["serve", image, "--insecure-plaintext"], disk) { server in
                let port = try #require(server.port)
                let client = try LibNBDClient("nbd://127.0.0.1:\(port)")
                #expect(client.size == disk.contents.count)
            }
        }
    }

    @Test func `it takes a vsock socket, which needs --insecure-plaintext too`() async throws {
        try await SmallDisk.with { disk, image in
            try await expectRefusal("vsock", ["serve", image], disk, 64, "every virtual machine")
            try await activate("vsock", ["serve", image, "--insecure-plaintext"], disk) { server in
                #expect(server.uri.contains(/^nbd\+vsock:\/\/[0-9]+:[0-9]+\/$/))
            }
        }
    }

    @Test func `it takes a Unix socket whose name is no path, and prints the name`() async throws {
        try await SmallDisk.with { disk, image in
            try await activate("abstract", ["serve", image], disk) { server in
                let name = disk.directory.file("given")
                #expect(server.uri == "nbd+unix:///?socket=%00\(name)")
                try await Tool.succeed(
                    "python3",
                    [
                        "-c",
                        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(chr(0) + sys.argv[1]); "
                            + "assert s.recv(8) == b'NBDMAGIC'", name,
                    ])
            }
        }
    }

    @Test func `--socket, --bind, --port and --vsock are of no use with a given socket`() async throws {
        try await SmallDisk.with { disk, image in
            for options in [disk.socket, ["--port", "0"], ["--bind", "127.0.0.1"], ["--vsock", "0"]] {
                try await expectRefusal("unix", ["serve", image] + options, disk, 64, "LISTEN_FDS")
                try FileManager.default.removeItem(atPath: disk.directory.file("given"))
            }
        }
    }

    @Test func `a descriptor that is no listening socket is refused with 66`() async throws {
        try await SmallDisk.with { disk, image in
            try await expectRefusal("file", ["serve", image], disk, 66, "descriptor 3", "LISTEN_FDS")
        }
    }

    @Test func `sockets that are meant for another process are left alone`() async throws {
        try await SmallDisk.with { disk, image in
            try await activate("stranger", ["serve", image] + disk.socket, disk) { server in
                #expect(server.socketPath == disk.directory.file("s"))
                try server.expectContents(disk.contents)
            }
        }
    }

    @Test func `a command of --run does not inherit the given socket or its variables`() async throws {
        try await SmallDisk.with { disk, image in
            let outcome = try await Tool.run(
                "python3",
                [Program.helper("activate.py"), "unix", disk.directory.file("given"), try Program.path, "serve", image]
                    + ["--run", "ls /proc/$$/fd; env | grep -c ^LISTEN_; nbdinfo --size \"$uri\""])
            #expect(outcome.output == "0\n1\n2\n0\n\(disk.contents.count)\n")
            #expect(outcome.code == 0)
        }
    }

    @Test func `systemd-socket-activate starts it when the first client comes`() async throws {
        try await SmallDisk.with { disk, image in
            let path = disk.directory.file("given")
            let line = """
                systemd-socket-activate -l \(path) \(try Program.path) serve \(image) --once \
                > \(disk.directory.file("log")) 2>&1 & pid=$!; \
                until [ -S \(path) ]; do sleep 0.02; done; \
                nbdcopy 'nbd+unix:///?socket=\(path)' \(disk.directory.file("copy.raw")); wait $pid
                """
            try await Tool.shell(line)
            let found = try File.contents(disk.directory.file("copy.raw"))
            #expect(found == disk.contents)
        }
    }

    private func activate(
        _ kind: String, _ arguments: [String], _ disk: SmallDisk, _ body: (ServerUnderTest) async throws -> Void
    ) async throws {
        let helper = [Program.helper("activate.py"), kind, disk.directory.file("given"), try Program.path]
        let outcome = try await ServerUnderTest.run(
            helper + arguments + ["-v"], program: "python3", ownsSocket: kind == "stranger", in: disk.directory, body)
        #expect(outcome.output.isEmpty == (kind != "stranger"), "standard output is not ours: \(outcome.output)")
        if kind == "unix" { #expect(File.exists(disk.directory.file("given")), "the path stays") }
    }

    private func expectRefusal(
        _ kind: String, _ arguments: [String], _ disk: SmallDisk, _ status: Int32, _ parts: String...
    ) async throws {
        let helper = [Program.helper("activate.py"), kind, disk.directory.file("given"), try Program.path]
        Program.expectRefusal(try await Tool.run("python3", helper + arguments), status: status, saying: parts)
    }
}
