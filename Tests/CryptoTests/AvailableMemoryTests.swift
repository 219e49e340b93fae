// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@testable import Crypto

@Suite struct AvailableMemoryTests {
    @Test func `some memory is available, by a limit that has a name`() {
        let available = AvailableMemory.now()
        #expect(available.bytes > 1 << 20 && available.bytes < 1 << 50)
        #expect(!available.reason.isEmpty)
    }

    @Test func `each group on the path to the root counts, without the pages of files`() throws {
        let root = FileManager.default.temporaryDirectory.appending(path: "groups-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        let inner = root.appending(path: "outer/inner")
        try FileManager.default.createDirectory(at: inner, withIntermediateDirectories: true)
        func write(_ text: String, _ path: String) throws {
            try text.write(to: root.appending(path: path), atomically: true, encoding: .utf8)
        }
        try write("max\n", "outer/inner/memory.max")
        try write("5000\n", "outer/inner/memory.current")
        try write("10000\n", "outer/memory.max")
        try write("9000\n", "outer/memory.current")
        try write("anon 100\ninactive_file 3000\nactive_file 2000\n", "outer/memory.stat")
        let limits = AvailableMemory.groups("/outer/inner", root: root.path)
        #expect(limits.map(\.bytes) == [6000])
        #expect(limits.first?.reason.hasSuffix("/outer") == true)
        try write("4000\n", "outer/inner/memory.max")
        #expect(AvailableMemory.groups("/outer/inner", root: root.path).map(\.bytes) == [0, 6000])
    }
}
