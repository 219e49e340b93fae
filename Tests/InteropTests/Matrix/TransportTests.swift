// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Ways to reach the server, and names of the export.
@Suite(.fewAtATime)
struct TransportTests {
    private static let recipe = ImageRecipe(isEncrypted: true, size: 40 << 20 | 0xA00)

    @Test(arguments: [["--port", "0"], ["--bind", "::1", "--port", "0"]])
    func `all clients read over TCP`(_ arguments: [String]) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let image = try await ImageMaker(directory: directory).mixed(Self.recipe)
        let oracle = try await image.oracle(in: directory)
        try await ServerUnderTest.run(image.serveArguments + arguments, in: directory) { server in
            #expect(server.uri.hasPrefix("nbd://"))
            let comparison = Comparison(server: server, oracle: oracle, recipe: Self.recipe)
            try comparison.libnbd()
            try comparison.parallelConnections()
            try comparison.oldClients()
            try await ClientTools(server: server, oracle: oracle, directory: directory).readAll(
                marker: ImageMaker.marker, at: ImageMaker.markerCluster * Self.recipe.clusterSize,
                count: Self.recipe.clusterSize)
        }
    }

    @Test func `--bind localhost serves every address that localhost has, at the printed port`() async throws {
        try await withRaw(["--bind", "localhost", "--port", "0"]) { server, disk, _ in
            try server.expectContents(disk)
        }
    }

    @Test func `without options it listens on a socket in a private directory, which is gone afterwards`() async throws
    {
        var parent = ""
        try await withRaw([]) { server, disk, _ in
            let path = try #require(server.socketPath)
            parent = URL(fileURLWithPath: path).deletingLastPathComponent().path
            #expect(try File.mode(parent) == 0o700)
            #expect(try File.mode(path) & 0o077 == 0)
            try server.expectContents(disk)
        }
        #expect(!parent.isEmpty && !File.exists(parent))
    }

    @Test func `a socket path with a space, a percent sign and other letters works in the printed URI`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = DiskContents(mark: 9).bytes(at: 0, count: 100_352, .noise)
        let image = try directory.write("disk, raw", disk)
        try await ServerUnderTest.run(
            ["serve", "-f", "raw", image, "--socket", directory.file("a %41,ü's")], in: directory
        ) { server in
            try server.expectContents(disk)
            let tools = ClientTools(server: server, oracle: disk, directory: directory)
            try await tools.nbdcopy()
            try await tools.qemuConvert()
        }
    }

    @Test func `a relative socket path works from any directory, as printed`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = DiskContents(mark: 9).bytes(at: 0, count: 100_352, .noise)
        let image = try directory.write("disk.raw", disk)
        try await ServerUnderTest.run(
            ["-c", "cd \(directory.path) && exec \(try Program.path) serve -f raw \(image) --socket s"],
            program: "/bin/sh", in: directory
        ) { server in
            #expect(server.socketPath == directory.file("s"))
            try server.expectContents(disk)
        }
    }

    @Test func `the export has its name, and the default name finds it too; no other does`() async throws {
        try await withRaw(["--export-name", "my disk/ü"]) { server, disk, directory in
            #expect(server.uri.hasPrefix("nbd+unix:///my%20disk/%C3%BC?socket="))
            #expect(try LibNBDClient(server.uri).size == disk.count)
            let unnamed = "nbd+unix:///?socket=\(directory.file("s"))"
            #expect(try LibNBDClient(unnamed).read(disk.count, at: 0) == disk)
            for flags: LibNBDClient.HandshakeFlags in [[], .fixedNewstyle, [.fixedNewstyle, .noZeroes]] {
                #expect(throws: LibNBDClient.Failed.self) {
                    try LibNBDClient("nbd+unix:///other?socket=\(directory.file("s"))", flags: flags)
                }
            }
            let client = try LibNBDClient(unnamed, staysInNegotiation: true)
            #expect(try client.exports() == ["my disk/ü": "raw"])
            #expect(throws: LibNBDClient.Failed.self) { try client.ask(about: "other") }
            try client.ask(about: "my disk/ü")
            #expect(client.size == disk.count && client.isReadOnly)
            try client.ask(about: "")
            #expect(client.size == disk.count)
            // A refused question does not end the negotiation.
            try client.choose("my disk/ü")
            #expect(try client.read(disk.count, at: 0) == disk)
            let tools = ClientTools(server: server, oracle: disk, directory: directory)
            try await tools.nbdcopy()
            try await tools.qemuConvert()
            let list = try await Tool.succeed("nbdinfo", ["--list", "--json", unnamed])
            #expect(list.contains("\"export-name\": \"my disk/ü\""))
        }
    }

    @Test func `the default export is listed with the empty name`() async throws {
        try await withRaw([]) { server, disk, _ in
            let client = try LibNBDClient(server.uri, staysInNegotiation: true)
            #expect(try client.exports() == ["": "raw"])
            try client.choose("")
            #expect(client.blockSizes == [1, 4096, 32 << 20] as [Int])
            #expect(client.isReadOnly && client.canFlush && client.canMultiConn && !client.canTrim && !client.canZero)
            try client.flush()
            #expect(try client.read(disk.count, at: 0) == disk)
        }
    }

    /// Serves a small raw disk.
    private func withRaw(
        _ arguments: [String], _ body: (ServerUnderTest, Data, TemporaryDirectory) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = DiskContents(mark: 9).bytes(at: 0, count: 300_032, .noise)
        let image = try directory.write("disk.raw", disk)
        let place = arguments.contains("--bind") || arguments.isEmpty ? [] : ["--socket", directory.file("s")]
        try await ServerUnderTest.run(
            ["serve", "-f", "raw", image] + place + arguments, in: directory
        ) { server in try await body(server, disk, directory) }
    }
}
