// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import Testing

@testable import Crypto

@Suite struct AvailableMemoryTests {
    @Test func `some memory is available, by a limit that has a name`() {
        let available = AvailableMemory.now()
        #expect(available.bytes > 1 << 20 && available.bytes < 1 << 50)
        #expect(!available.reason.isEmpty)
    }

    /// A directory with these files, and what it says of the memory.
    private func groups(_ files: [String: String], membership: String) throws -> [AvailableMemory] {
        let root = FileManager.default.temporaryDirectory.appending(path: "groups-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        for (path, text) in files {
            let file = root.appending(path: path)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try text.write(to: file, atomically: true, encoding: .utf8)
        }
        return AvailableMemory.groups(membership: membership, mounts: root.path).map { limit in
            AvailableMemory(bytes: limit.bytes, reason: limit.reason.replacing(root.path, with: ""))
        }
    }

    @Test func `each group on the path to the root counts, without the pages of files`() throws {
        var files = [
            "outer/inner/memory.max": "max\n", "outer/inner/memory.current": "5000\n", "outer/memory.max": "10000\n",
            "outer/memory.current": "9000\n",
            "outer/memory.stat": "anon 100\ninactive_file 3000\nactive_file 2000\n",
        ]
        let outer = AvailableMemory(bytes: 6000, reason: "memory.max of /outer")
        #expect(try groups(files, membership: "0::/outer/inner\n") == [outer])
        files["outer/inner/memory.max"] = "4000\n"
        #expect(
            try groups(files, membership: "0::/outer/inner\n")
                == [AvailableMemory(bytes: 0, reason: "memory.max of /outer/inner"), outer])
    }

    @Test(
        arguments: [
            // Visible as it is; of a host, the end of which is the root here; out of the namespace.
            ("4:memory:/docker/abc", [600, 700]), ("5:memory:/kubepods/pod1/abc", [700]), ("5:memory:/../..", [700]),
            ("3:cpu,memory:/docker/abc", [600, 700]), ("4:memory:/", [700]),
            // Both versions: the second one has no memory here.
            ("4:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n", [600, 700]),
            ("4:memory_other:/docker/abc\n2:cpu:/\n1:name=memory:/", []), ("memory\n:::\n\n4:memory", []),
        ] as [(String, [UInt64])])
    func `groups of version 1 count as well`(membership: String, bytes: [UInt64]) throws {
        let statistics = """
            inactive_file 1
            hierarchical_memory_limit 1100
            total_inactive_file 100
            total_active_file 200

            """
        let limits = try groups(
            [
                "memory/memory.limit_in_bytes": "1000\n", "memory/memory.usage_in_bytes": "600\n",
                "memory/memory.stat": statistics,
                // No limit of its own, as version 1 writes it: that of the group above is in the statistics.
                "memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/docker/abc/memory.usage_in_bytes": "800\n", "memory/docker/abc/memory.stat": statistics,
            ], membership: membership)
        #expect(limits.map(\.bytes) == bytes)
        #expect(limits.allSatisfy { $0.reason.hasPrefix("memory.limit_in_bytes of /memory") })
    }
}
