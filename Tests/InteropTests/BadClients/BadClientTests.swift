// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization
import Testing

/// Misbehaving clients, named by fault: nobody else notices.
@Suite(.fewAtATime)
struct BadClientTests {
    private final class Progress: Sendable {
        let isOver = Atomic(false)
    }

    static let scenarios = [
        "garbage", "wrong_magic", "half_headers", "option_flood", "giant_options", "wrong_options", "wrong_requests",
        "large_reads", "writes", "hang_ups", "good_byes", "slow_readers", "idle",
    ]

    @Test(arguments: scenarios, ["unix", "tcp"])
    func `a good client copies the disk while others misbehave, and the server is as before afterwards`(
        _ scenario: String, _ transport: String
    ) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let recipe = ImageRecipe(isEncrypted: true, size: 40 << 20)
        let image = try await ImageMaker(directory: directory).mixed(recipe)
        let oracle = try await image.oracle(in: directory)
        let place = transport == "unix" ? ["--socket", directory.file("s")] : ["--port", "0"]
        try await ServerUnderTest.run(image.serveArguments + place, in: directory) { server in
            try server.expectContents(oracle)
            let address = try server.socketPath ?? "127.0.0.1:\(#require(server.port))"
            let progress = Progress()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    defer { progress.isOver.store(true, ordering: .relaxed) }
                    try await Tool.succeed("python3", [Program.helper("bad_clients.py"), address, scenario])
                }
                let copy = directory.file("copy.raw")
                repeat {
                    try await Tool.succeed("nbdcopy", [server.uri, copy])
                    #expect(Difference.describe(try File.contents(copy), oracle) == nil)
                    try FileManager.default.removeItem(atPath: copy)
                } while !progress.isOver.load(ordering: .relaxed)
                try await group.waitForAll()
            }
            try server.expectContents(oracle)
            let highest = try server.residentMemory(highest: true)
            #expect(highest < 64 << 20, "\(highest) bytes")
            // No connection is left behind: the listener, the image, and what the run time has for itself stay.
            try await Deadline.wait(seconds: 3, for: "all connections are closed") {
                try server.connectionCount == 0 ? () : nil
            }
        }
    }
}
