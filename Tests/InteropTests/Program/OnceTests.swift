// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `--once`
@Suite(.fewAtATime)
struct OnceTests {
    @Test func `probes do not end the server; a copy does`() async throws {
        try await SmallDisk.with { disk, image in
            let outcome = try await ServerUnderTest.run(
                ["serve", image, "--once", "--port", "0"], ending: .byItself, in: disk.directory
            ) { server in
                let port = try #require(server.port)
                try await Tool.succeed("nbdinfo", [server.uri])
                try await Tool.succeed("nbdinfo", ["--list", server.uri])
                try await Tool.succeed("nbdinfo", ["--size", server.uri])
                try await Tool.succeed("qemu-img", ["info", server.uri])
                let list = try await Tool.succeed("nbd-client", ["-l", "127.0.0.1", "\(port)"])
                #expect(list.contains("qcow2, not encrypted"))
                // Port scans: connect and leave, connect and reset, connect and say nonsense.
                try await Tool.shell("for i in 1 2 3; do exec 3<>/dev/tcp/127.0.0.1/\(port); exec 3>&-; done")
                try await Tool.shell(
                    "echo 'GET / HTTP/1.0' | timeout 5 socat - TCP:127.0.0.1:\(port) >/dev/null || true")
                // A client that chooses the export and reads nothing.
                _ = try LibNBDClient(server.uri)
                try await letGo(of: server, but: 0)
                try server.expectContents(disk.contents)
            }
            #expect(outcome.code == 0, "\(outcome.errors)")
        }
    }

    @Test(arguments: ["nbdcopy", "qemu-img convert", "nbdcopy --connections=4"])
    func `each of these copies ends it`(_ program: String) async throws {
        try await SmallDisk.with { disk, image in
            let copy = disk.directory.file("copy.raw")
            let outcome = try await ServerUnderTest.run(
                ["serve", image, "--once"] + disk.socket, ending: .byItself, in: disk.directory
            ) { server in
                let options = program.hasPrefix("qemu") ? "-f raw -O raw" : ""
                try await Tool.shell("\(program) \(options) '\(server.uri)' \(copy)")
            }
            #expect(outcome.code == 0, "\(outcome.errors)")
            #expect(!File.exists(disk.directory.file("s")))
            let found = try File.contents(copy)
            #expect(found == disk.contents)
        }
    }

    @Test func `it ends with the last client that transferred data, not with the first`() async throws {
        try await SmallDisk.with { disk, image in
            let outcome = try await ServerUnderTest.run(
                ["serve", image, "--once"] + disk.socket, ending: .byItself, in: disk.directory
            ) { server in
                let first = try LibNBDClient(server.uri)
                let half = try first.read(500_000, at: 0)
                try await Tool.succeed("nbdcopy", [server.uri, disk.directory.file("copy.raw")])
                try await letGo(of: server, but: 1)
                let rest = try first.read(disk.contents.count - 500_000, at: 500_000)
                #expect(half + rest == disk.contents)
            }
            #expect(outcome.code == 0, "\(outcome.errors)")
        }
    }

    @Test(arguments: [512, 4096, 65_536])
    func `a small disk that is copied whole ends it too`(_ size: Int) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let contents = DiskContents(mark: 1).bytes(at: 0, count: size, .plain)
        let image = try directory.write("disk.raw", contents)
        let outcome = try await ServerUnderTest.run(
            ["serve", "-f", "raw", image, "--once", "--socket", directory.file("s")], ending: .byItself, in: directory
        ) { server in
            try await Tool.succeed("nbdcopy", [server.uri, directory.file("copy.raw")])
        }
        #expect(outcome.code == 0, "\(outcome.errors)")
    }

    @Test func `a signal ends it before anybody came`() async throws {
        try await SmallDisk.with { disk, image in
            try await ServerUnderTest.run(["serve", image, "--once"] + disk.socket, in: disk.directory) { _ in }
        }
    }

    /// Waits until the server has let go of all clients but `count`.
    private func letGo(of server: ServerUnderTest, but count: Int) async throws {
        try await Deadline.wait(for: "the server lets clients go") {
            try server.connectionCount == count ? () : nil
        }
    }
}
