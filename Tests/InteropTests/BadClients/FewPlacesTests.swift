// SPDX-License-Identifier: Apache-2.0

import Foundation
import Subprocess
import Testing

/// Few clients may be connected, because somebody said so or because the system has no room for more.
@Suite(.fewAtATime)
struct FewPlacesTests {
    @Test(arguments: [1, 2, 3, 4, 5, 16])
    func `nbdcopy with many connections copies, however few the server lets in`(_ limit: Int) async throws {
        try await withServer(["--max-connections", "\(limit)"]) { disk, server in
            let copy = disk.directory.file("copy.raw")
            try await Tool.succeed("nbdcopy", ["-C", "4", "-T", "4", server.uri, copy])
            #expect(try File.contents(copy) == disk.contents)
        }
    }

    @Test func `nbdcopy with many connections copies while others have most of the places`() async throws {
        try await withServer(["--max-connections", "16"]) { disk, server in
            let copy = disk.directory.file("copy.raw")
            let script = """
                import subprocess
                from bad_clients import *
                others = [negotiated() for _ in range(14)]
                subprocess.run(["nbdcopy", "-C", "4", "-T", "4", sys.argv[2], sys.argv[3]], check=True, timeout=60)
                for client in others:
                    expect_alive(client)
                """
            try await Tool.succeed(
                "python3", ["-c", script, disk.directory.file("s"), server.uri, copy],
                environment: ["PYTHONPATH": Program.helper("")])
            #expect(try File.contents(copy) == disk.contents)
        }
    }

    @Test
    func `with few descriptors the limit is cut, with a warning, and clients that say nothing make room for others`()
        async throws
    {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let line =
            "ulimit -n 64; exec \(try Program.path) serve -f raw \(try disk.raw()) --socket \(directory.file("s"))"
        try await ServerUnderTest.run(["-c", line], program: "/bin/sh", in: directory) { server in
            let errors = try server.errors
            #expect(errors.contains("not 1024 (--max-connections): only 64 files may be open"), "\(errors)")
            let script = """
                from bad_clients import *
                first = negotiated()
                silent = [Client(PLACE, 1) for _ in range(100)]
                expect_alive(negotiated())
                expect_alive(first)
                """
            try await Tool.succeed(
                "python3", ["-c", script, directory.file("s")], environment: ["PYTHONPATH": Program.helper("")])
            try server.expectContents(disk.contents)
        }
    }

    @Test func `a server that could have no client at all does not start, and says why`() async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        let line =
            "ulimit -n 14; exec \(try Program.path) serve -f raw \(try disk.raw()) --socket \(directory.file("s"))"
        let outcome = try await Tool.run("sh", ["-c", line])
        #expect(outcome.status != .exited(0))
        #expect(outcome.errors.contains("raise"), "\(outcome.errors)")
    }

    private func withServer(
        _ options: [String], _ body: (SmallDisk, ServerUnderTest) async throws -> Void
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = SmallDisk(directory)
        try await ServerUnderTest.run(
            ["serve", "-f", "raw", try disk.raw()] + disk.socket + options, in: directory
        ) { server in try await body(disk, server) }
    }
}
