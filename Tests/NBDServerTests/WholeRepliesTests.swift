// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Synchronization
import TestSupport
import Testing

@testable import NBDServer
@testable import ServerTestSupport

/// No byte of another reply gets into a reply, whoever sends it and however little memory there is.
@Suite struct WholeRepliesTests {
    private static let bytes = noise(51 << 20)

    /// Serves a read in pieces and others behind it, with little memory.
    private static func serve(_ mode: WireMode, flags: UInt16, decide: @escaping (Int) -> Int) throws {
        let lengths = [300_000, 64 << 10, 70_000, 5, 200_000, 64 << 10, 64 << 10]
        let requests = lengths.enumerated().map { index, length in
            WireRequest(
                .read, flags: flags, cookie: UInt64(index), offset: UInt64(index * 1001), length: UInt64(length))
        }
        let conversation = WireConversation(mode, requests)
        // A buffer for the last piece, and one for a worker.
        let pool = PayloadBufferPool(maximumBytes: 210_000)
        let loop = try EventLoop(index: 0, processors: SpareProcessors(total: 0), isDriven: true)
        let output: [UInt8] = try loop.queue.sync {
            let driven = try DrivenConnection(
                loop, [Export(name: "", description: "", device: MemoryDevice(Array(bytes[..<400_000])))],
                limits: ServerLimits(),
                buffers: pool, processors: 4,
                input: conversation.bytes, decide: decide)
            driven.run()
            #expect(driven.isEnded)
            driven.end()
            return driven.output
        }
        #expect(pool.report.used == 0)
        var checker = conversation.checker
        for reply in try checker.takeAll(try conversation.replies(in: output)) {
            try #require(reply.error == 0)
            try #require(reply.hasData(of: bytes))
        }
        #expect(checker.openCount == 0)
    }

    @Test(arguments: WireMode.allCases, [0, WireRequest.Flag.dontFragment])
    func `a worker that is quicker than the loop waits for the last piece of the reply before`(
        mode: WireMode, flags: UInt16
    ) throws {
        guard mode != .simple || flags == 0 else { return }
        // Threads change wherever they can, so that workers have read and sent before the loop has sent the piece.
        try Self.serve(mode, flags: flags) { choices in choices == 2 ? 1 : 0 }
    }

    @Test(arguments: WireMode.allCases, [0, WireRequest.Flag.dontFragment])
    func `replies are whole in whatever order threads take their steps`(mode: WireMode, flags: UInt16) throws {
        guard mode != .simple || flags == 0 else { return }
        for seed in 0..<200 as Range<UInt64> {
            var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
            try Self.serve(mode, flags: flags) { choices in
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                return Int(state % UInt64(choices))
            }
        }
    }

    @Test(.timeLimit(.minutes(10)), arguments: WireMode.allCases, [1, 4])
    func `every byte of pipelined reads of all sizes is right with a reply memory of 1 MiB`(
        mode: WireMode, connections: Int
    ) throws {
        let device = MemoryDevice(Self.bytes)
        let server = try Server.serving(device) { $0.replyBytes = 1 << 20 }
        let wrong = Mutex<[String]>([])
        DispatchQueue.concurrentPerform(iterations: connections) { index in
            do {
                let client = try NBDTestClient(server, mode)
                for round in 0..<2 {
                    let isHuge = connections == 1 && round == 0
                    try Self.readAll(client, mode, largest: isHuge ? 48 << 20 : 3 << 20, index * 3 + round)
                }
            } catch { wrong.withLock { $0.append("\(error)") } }
        }
        #expect(wrong.withLock { $0 } == [])
    }

    private static func readAll(_ client: NBDTestClient, _ mode: WireMode, largest: Int, _ seed: Int) throws {
        let sizes = [64 << 10, 96 << 10, 4096, 128 << 10, 1 << 20, 64 << 10, 3 << 20]
        var requests: [WireRequest] = []
        for index in 0..<12 {
            // Some in one chunk each.
            let flags = mode != .simple && index % 3 == 1 ? WireRequest.Flag.dontFragment : 0
            let length = index == 0 ? largest : min(largest, sizes[(index + seed) % sizes.count])
            let offset = (index &* 7_654_321 &+ seed &* 1_234_567) % (bytes.count - length)
            requests.append(
                WireRequest(.read, flags: flags, cookie: UInt64(index), offset: UInt64(offset), length: UInt64(length)))
        }
        client.send(requests)
        for _ in requests {
            let reply = try client.reply()
            guard reply.error == 0, reply.hasData(of: bytes) else { throw WireFault("wrong bytes: \(reply.request)") }
        }
    }
}
