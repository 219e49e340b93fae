// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import NBDServer
import Synchronization
import TestSupport
import Testing

/// What a source that does not answer holds up, and what it does not.
@Suite struct LaneServingTests {
    /// A disk far away that answers when it is let to, and counts what is under way.
    private final class SilentDevice: BlockDevice {
        let size: UInt64 = 64 << 20
        let alignment = 1
        let isWritable = true
        let depth: Int
        private let gate = DispatchSemaphore(value: 0)
        private let begun = Atomic(0)

        init(depth: Int) { self.depth = depth }

        var begunCount: Int { begun.load(ordering: .relaxed) }

        func waitFor(_ count: Int) async throws {
            for _ in 0..<3000 where begunCount < count { try await Task.sleep(for: .milliseconds(20)) }
            try #require(begunCount == count)
        }

        /// Answers everything from now on.
        func answer() { gate.signal() }

        private func wait() {
            begun.add(1, ordering: .relaxed)
            gate.wait()
            gate.signal()
        }

        func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
            guard mode.mayWait else { throw .wouldBlock }
            wait()
            buffer.clear()
        }

        func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
            guard mode.mayWait else { throw .wouldBlock }
            wait()
            return Extent(offset: offset, length: min(limit, size - offset), kind: .data)
        }

        func prefetch(_ range: ByteRange, _ budget: Budget) { wait() }
        func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
            wait()
        }
        func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) { wait() }
        func discard(_ range: ByteRange) throws(BlockError) { wait() }
        func flush() throws(BlockError) { wait() }
    }

    private func reads(_ count: Int) -> [WireRequest] {
        (0..<UInt64(count)).map { WireRequest(.read, offset: $0 * 4096, length: 4096).with(cookie: $0) }
    }

    @Test(arguments: WireMode.allCases)
    func `an export on a device that never answers holds up no other`(mode: WireMode) async throws {
        let silent = SilentDevice(depth: 64)
        defer { silent.answer() }
        let file = MemoryDevice([UInt8](repeating: 7, count: 1 << 20), isWritable: true)
        file.faults.nothingIsCached = true
        let server = try Server.serving([
            Export(name: "", description: "", device: file), Export(name: "silent", description: "", device: silent),
        ])
        // More than the device takes at once.
        let stuck = try (0..<4).map { _ in try NBDTestClient(server, mode, export: "silent") }
        for client in stuck { client.send(reads(32)) }
        try await silent.waitFor(64)
        let client = try NBDTestClient(server, mode, contexts: mode == .simple ? [] : ["base:allocation"])
        for offset in 0..<20 as Range<UInt64> {
            let reply = try client.ask(WireRequest(.read, offset: offset * 4096, length: 4096))
            #expect(reply.data == [UInt8](repeating: 7, count: 4096))
        }
        #expect(try client.ask(.write([1, 2, 3], at: 5, mode)).error == 0)
        #expect(try client.ask(WireRequest(.flush)).error == 0)
        #expect(try client.ask(WireRequest(.trim, length: 4096)).error == 0)
        if mode != .simple {
            #expect(try client.status("base:allocation", offset: 0, length: 1 << 20).count == 1)
        }
        #expect(silent.begunCount == 64)
        silent.answer()
        for client in stuck { for _ in 0..<32 { #expect(try client.reply().error == 0) } }
        // Who waited for it is served in the end, all of it.
        #expect(silent.begunCount == 128)
    }

    @Test func `of a deep source one client has as much under way as it takes, of a file eight`() async throws {
        for (depth, expected) in [(64, 64), (8, 8)] {
            let device = SilentDevice(depth: depth)
            let server = try Server.serving(device)
            let client = try NBDTestClient(server)
            client.send(reads(100))
            try await device.waitFor(expected)
            #expect(device.begunCount == expected)
            device.answer()
            for _ in 0..<100 { #expect(try client.reply().error == 0) }
        }
    }
}
