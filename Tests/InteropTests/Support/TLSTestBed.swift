// SPDX-License-Identifier: Apache-2.0

import Foundation
import Subprocess
import Synchronization
import Testing

/// A disk, credentials, and servers that serve the one with the others.
struct TLSTestBed: Sendable {
    let directory: TemporaryDirectory
    let credentials: TLSCredentials
    let contents: Data
    /// A raw file.
    let image: String

    /// Makes all that, does `body`, and removes it.
    static func run(
        size: Int = 1 << 20, _ body: (TLSTestBed) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let contents = DiskContents(mark: 0x71).bytes(at: 0, count: size, .noise)
        let image = try directory.write("disk.raw", contents)
        let bed = TLSTestBed(
            directory: directory, credentials: try await TLSCredentials(in: directory), contents: contents,
            image: image)
        try await body(bed)
    }

    /// Options for a server with the certificate in the directory of this name.
    func certificates(_ name: String = "server") -> [String] { ["--tls-certs", credentials.file(name)] }

    /// Options for a server with the right keys.
    var keys: [String] { ["--tls-psk", credentials.file("right/keys.psk")] }

    /// Serves the disk with these options, on TCP unless they name a socket.
    @discardableResult
    func serve(
        _ options: [String], ending: ServerUnderTest.Ending = .signal(.terminate),
        _ body: (ServerUnderTest) async throws -> Void
    ) async throws -> Tool.Outcome {
        let place = options.contains("--socket") ? [] : ["--port", "0"]
        return try await ServerUnderTest.run(
            ["serve", "-f", "raw", image, "-v", "-v"] + place + options, ending: ending, in: directory, body)
    }

    /// Does `work` while a client reads the disk again and again, from before to after it, and compares what it gets.
    func undisturbed(
        _ server: ServerUnderTest, _ client: TLSCredentials.Client = .laptop,
        _ work: @escaping @Sendable () async throws -> Void
    ) async throws {
        final class Progress: Sendable {
            let isOver = Atomic(false)
        }
        let progress = Progress()
        let good = try LibNBDClient(try credentials.uri(server, client))
        try #require(good.size == contents.count)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { progress.isOver.store(true, ordering: .sequentiallyConsistent) }
                try await work()
            }
            var isLast = false
            repeat {
                isLast = progress.isOver.load(ordering: .sequentiallyConsistent)
                let found = try good.read(contents.count, at: 0)
                #expect(Difference.describe(found, contents) == nil, "what the good client reads")
                try await Task.sleep(for: .milliseconds(5))
            } while !isLast
            try await group.waitForAll()
        }
    }

    /// How many sockets of clients a server has: those of a crowd may be too many for one look at /proc/net/tcp.
    func clientCount(_ server: ServerUnderTest) throws -> Int {
        let path = "/proc/\(server.processIdentifier)/fd"
        let names = try FileManager.default.contentsOfDirectory(atPath: path)
        let sockets = names.count {
            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "\(path)/\($0)")
            return target?.hasPrefix("socket:") == true
        }
        // One of them listens.
        return sockets - 1
    }

    /// Waits until a server has closed the sockets of all clients but so many.
    func expectClients(_ server: ServerUnderTest, _ count: Int) async throws {
        try await Deadline.wait(seconds: 15, for: "all connections but \(count) are closed") {
            try clientCount(server) == count ? () : nil
        }
    }

    /// Runs a client of Helpers/tls_clients.py.
    func abuse(_ server: ServerUnderTest, _ scenario: String, _ arguments: [String]) async throws {
        try await Tool.succeed(
            "python3",
            [Program.helper("tls_clients.py"), "127.0.0.1:\(try #require(server.port))", scenario]
                + [credentials.file("server/ca-cert.pem")] + arguments)
    }

    /// Runs `nbdinfo` as a client that must be refused.
    /// - Returns: what it says.
    func expectRefusal(
        _ uri: String, _ version: TLSCredentials.Version = .new, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> String {
        let outcome = try await Tool.run("nbdinfo", [uri], environment: credentials.environment(version))
        #expect(outcome.code == 1, "\(uri): \(outcome.output)", sourceLocation: sourceLocation)
        #expect(outcome.output.isEmpty, "\(uri): \(outcome.output)", sourceLocation: sourceLocation)
        return outcome.errors
    }

    /// Waits until the log of a server has a line in which all of `parts` are.
    func expectLog(_ server: ServerUnderTest, _ parts: [String], count: Int = 1) async throws {
        do {
            try await Deadline.wait(seconds: 10, for: "log: \(parts)") {
                let lines = try server.errors.split(separator: "\n")
                return lines.count { line in parts.allSatisfy(line.contains) } >= count ? () : nil
            }
        } catch let missed as Deadline.Missed {
            Issue.record("\(missed.description)\n\(try server.errors)")
        }
    }
}
