// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Foundation
import NBDServer
import Synchronization
import TestSupport
import Testing

/// A disk far away through a connection: on its own threads, as deep as it likes.
@Suite struct FarServingTests {
    private let host = SimulatedHost(clock: nil)

    /// Pages that begin with their number.
    private static let size = 64 << 20

    private static func page(_ index: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(truncatingIfNeeded: index &* 7 &+ index >> 8), count: 4096)
    }

    private func far() throws -> (source: SimulatedSource, device: any BlockDevice) {
        var opener = host.opener
        // What is held is held.
        opener.timeLimit = .seconds(3600)
        let bytes = (0..<Self.size / 4096).flatMap(Self.page)
        let source = host.add("disk", MemoryDevice(bytes))
        return (source, try opener.open(SimulatedHost.source("disk")).device)
    }

    private func wait(until condition: () throws -> Bool) async throws {
        for _ in 0..<3000 {
            if try condition() { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        try #require(try condition())
    }

    private func threads(named name: String) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count { thread in
            let found = try? String(contentsOfFile: "/proc/self/task/\(thread)/comm", encoding: .utf8)
            return found == name + "\n"
        }
    }

    private func read(_ block: Int) -> WireRequest {
        WireRequest(.read, offset: UInt64(block) << 16, length: 4096).with(cookie: UInt64(block))
    }

    /// One request in each block of the cache, in an order that nothing is read ahead in.
    private static let blocks = (0..<100).map { $0 * 37 % 1024 }

    @Test func `one client has 64 reads under way, another export goes on, and the threads go with the source`()
        async throws
    {
        let name = "far \(UInt16.random(in: 0 ... .max))"
        let (source, device) = try far()
        let file = MemoryDevice([UInt8](repeating: 7, count: 1 << 20), isWritable: true)
        file.faults.nothingIsCached = true
        source.behaviour.fault = { _ in .held }
        try await served([
            Export(name: "", description: "", device: file),
            Export(name: "far", description: "", device: device, lane: Lane(name: name, width: device.depth)),
        ]) { server in
            let stuck = try NBDTestClient(server, export: "far")
            stuck.send(Self.blocks.map(read))
            try await wait { source.counts.underWay == 64 }
            #expect(try threads(named: name) == 64)
            let client = try NBDTestClient(server)
            for offset in 0..<20 as Range<UInt64> {
                let reply = try client.ask(WireRequest(.read, offset: offset * 4096, length: 4096))
                #expect(reply.data == [UInt8](repeating: 7, count: 4096))
            }
            #expect(try client.ask(WireRequest(.flush)).error == 0)
            #expect(source.counts.underWay == 64 && source.counts.mostUnderWay == 64)
            source.behaviour.fault = nil
            source.answerHeld()
            for _ in Self.blocks {
                let reply = try stuck.reply()
                #expect(reply.error == 0 && reply.data == Self.page(Int(reply.request.cookie) << 4))
            }
            #expect(source.counts.operations.count == 100 && source.counts.mostUnderWay == 64)
        }
        try await wait { try threads(named: name) == 0 }
    }

    /// The server lives as long as `body` does.
    private func served(_ exports: [Export], _ body: (Server) async throws -> Void) async throws {
        try await body(try Server.serving(exports))
    }

    @Test(arguments: [WireMode.structured, .extended])
    func `no loop ever makes the source begin anything`(mode: WireMode) async throws {
        let name = "far \(UInt16.random(in: 0 ... .max))"
        let (source, device) = try far()
        let callers = Mutex<[String: Int]>([:])
        source.behaviour.fault = { _ in
            let caller = (try? String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8)) ?? "nobody"
            callers.withLock { $0[caller, default: 0] += 1 }
            return nil
        }
        let server = try Server.serving([
            Export(name: "", description: "", device: device, lane: Lane(name: name, width: device.depth))
        ])
        let client = try NBDTestClient(server, mode, contexts: ["base:allocation"])
        // A copy reads ahead; what it has read is in memory when it is read again.
        for _ in 0..<2 {
            for index in 0..<1024 {
                let reply = try client.ask(WireRequest(.read, offset: UInt64(index) * 4096, length: 4096))
                #expect(reply.data == Self.page(index))
            }
        }
        for index in 0..<1024 as Range<UInt64> {
            #expect(try !client.status("base:allocation", offset: index * 65_536, length: 4096).isEmpty)
        }
        let found = callers.withLock { $0 }
        #expect(Array(found.keys) == [name + "\n"])
        let extents = source.counts.operations.count { if case .extents = $0 { true } else { false } }
        #expect(extents == 1)
        #expect(source.counts.operations.count < 64 + 64 + 2)
    }
}
