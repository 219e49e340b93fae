// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import TestSupport
import Testing

@testable import NBDServer

/// What becomes of replies when a connection ends early.
@Suite struct EndingTests {
    @Test(arguments: WireMode.allCases, [false, true])
    func `replies to requests before a violation still arrive`(mode: WireMode, isOversize: Bool) throws {
        let bytes = noise(1 << 20)
        let client = try NBDTestClient(.serving(MemoryDevice(bytes, isWritable: true)), mode)
        var message: [UInt8] = []
        var checker = ReplyChecker(mode)
        for cookie: UInt64 in 1...5 {
            let request = WireRequest(.read, cookie: cookie, offset: cookie, length: 4096)
            checker.expect(request)
            message += request.encoded(mode)
        }
        if isOversize {
            let head = WireRequest.write([], at: 0, cookie: 9, mode).encoded(mode)
            message += head.prefix(head.count - 4) + [0xFF, 0xFF, 0xFF, 0xFF]
        } else {
            message += [UInt8](repeating: 0x47, count: 64)
        }
        client.wire.send(message)
        for _ in 1...5 {
            while true {
                let head = try client.wire.receive(mode.headLength)
                try #require(head.count == mode.headLength)
                let payload = try client.wire.receive(try checker.payloadLength(head[...]))
                guard let reply = try checker.take(head[...], payload[...]) else { continue }
                let start = Int(reply.request.cookie)
                #expect(reply.error == 0 && reply.data == Array(bytes[start..<(start + 4096)]))
                break
            }
        }
        #expect(try client.wire.isEnded())
    }

    @Test(.timeLimit(.minutes(2)))
    func `a client that says good-bye and does not take its replies is sent away in time`() async throws {
        let server = try Server.serving(MemoryDevice(noise(8 << 20))) { $0.goodbye = .milliseconds(100) }
        let client = try NBDTestClient(server)
        client.send(WireRequest(.read, cookie: 1, length: 8 << 20), WireRequest(.disconnect))
        while server.connectionCount > 0 { try await Task.sleep(for: .milliseconds(20)) }
        client.wire.close()
    }

    @Test(.timeLimit(.minutes(2)))
    func `long zeroing without help from below is done in slices, and ends with the connection`() async throws {
        let device = HugeDevice(size: 1 << 62, isWritable: true, period: 1 << 40, hasFastZeros: false)
        let lane = Lane(name: "huge", width: 1)
        let server = try Server.serving([Export(name: "", description: "", device: device, lane: lane)])
        let client = try NBDTestClient(server, .extended)
        #expect(
            try client.ask(WireRequest(.writeZeroes, flags: WireRequest.Flag.fua, offset: 5, length: 70 << 20)).error
                == 0)
        let slices = try [(0, 32), (32, 32), (64, 6)].map { start, length in
            try #require(ByteRange(offset: 5 + UInt64(start) << 20, length: UInt64(length) << 20))
        }
        #expect(device.calls == slices.map { .zero($0, .mayDiscard) } + [.flush])
        #expect(
            try client.ask(WireRequest(.writeZeroes, flags: WireRequest.Flag.fastZero, length: 1 << 40)).error == 95)
        client.send(WireRequest(.writeZeroes, cookie: 1, length: 1 << 62))
        while device.calls.count < 100 { try await Task.sleep(for: .milliseconds(1)) }
        // Meanwhile others are served.
        let other = try NBDTestClient(server)
        #expect(try other.ask(WireRequest(.trim, length: 512)).error == 0)
        client.wire.close()
        other.wire.close()
        while server.connectionCount > 0 { try await Task.sleep(for: .milliseconds(1)) }
        // The thread of the lane gives those who want it their turns: what else there is to do is done between these.
        func takeTurns() {
            for _ in 0..<3 {
                let done = DispatchSemaphore(value: 0)
                lane.run(for: WorkOwner(peer: .other, connection: 0)) { done.signal() }
                done.wait()
            }
        }
        takeTurns()
        let count = device.calls.count
        takeTurns()
        #expect(device.calls.count == count)
    }
}
