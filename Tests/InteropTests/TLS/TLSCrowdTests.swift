// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Many clients that begin with TLS and do not finish.
@Suite(.fewAtATime)
struct TLSCrowdTests {
    @Test func `a thousand do not disturb those who come before and after them, and leave nothing behind`() async throws
    {
        try await TLSTestBed.run { bed in
            try await bed.serve(bed.certificates()) { server in
                for _ in 0..<4 {
                    try await Tool.succeed("nbdcopy", [try bed.credentials.uri(server, .laptop), "null:"])
                }
                // The memory allocator keeps what the first crowds need; others must do with that.
                var memory: [Int] = []
                for _ in 0..<5 {
                    try await bed.abuse(server, "visit", ["1000"])
                    try await bed.expectClients(server, 0)
                    memory.append(try server.residentMemory())
                }
                #expect(memory[4] < memory[1] + 24 << 20, "\(memory)")
                let before = try files(server)
                let ready = bed.directory.file("ready")
                try await bed.undisturbed(server) {
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        group.addTask { try await bed.abuse(server, "crowd", ["1000", ready]) }
                        try await Deadline.wait(for: "the crowd") { File.exists(ready) ? () : nil }
                        #expect(try bed.clientCount(server) == 1001)
                        // A client that comes now has its turn, too.
                        let copy = bed.directory.file("copy.raw")
                        let start = ContinuousClock.now
                        try await Tool.succeed("nbdcopy", [try bed.credentials.uri(server, .laptop), copy])
                        #expect(ContinuousClock.now - start < .seconds(5))
                        #expect(Difference.describe(try File.contents(copy), bed.contents) == nil)
                        #expect(try bed.clientCount(server) >= 1001, "all of them are still there")
                        try await group.waitForAll()
                    }
                }
                // The helper has seen all of them end; of so many the log does not tell one by one.
                try await bed.expectLog(server, ["did not finish the negotiation in time"])
                try await bed.expectLog(server, ["lines about clients were left out"])
                try await bed.expectClients(server, 0)
                #expect(try files(server) <= before)
                let highest = try server.residentMemory(highest: true)
                #expect(highest < 192 << 20, "\(highest) bytes")
            }
        }
    }

    @Test func `they do not hold up the end`() async throws {
        try await TLSTestBed.run { bed in
            let ready = bed.directory.file("ready")
            var start = ContinuousClock.now
            try await withThrowingTaskGroup(of: Void.self) { group in
                try await bed.serve(bed.certificates()) { server in
                    group.addTask { try await bed.abuse(server, "crowd", ["200", ready]) }
                    try await Deadline.wait(for: "the crowd") { File.exists(ready) ? () : nil }
                    let count = try bed.clientCount(server)
                    #expect(count == 200)
                    start = ContinuousClock.now
                }
                #expect(ContinuousClock.now - start < .seconds(3))
                // The clients have seen the end, too.
                try await group.waitForAll()
            }
            #expect(ContinuousClock.now - start < .seconds(5))
        }
    }

    /// How many files the server has open.
    private func files(_ server: ServerUnderTest) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/\(server.processIdentifier)/fd").count
    }
}
