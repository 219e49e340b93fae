// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import NBDServer
import TestSupport
import Testing

/// NBD specification, "Terminating the transmission phase", `NBD_ESHUTDOWN`, `NBD_REP_ERR_SHUTDOWN`.
@Suite struct StoppingTests {
    @Test(.timeLimit(.minutes(5)), arguments: WireMode.allCases)
    func `requests that come after the stop are ESHUTDOWN and those before are served`(mode: WireMode) async throws {
        let device = MemoryDevice(noise(1 << 20), isWritable: true)
        let isStopped = DispatchSemaphore(value: 0)
        let isReading = DispatchSemaphore(value: 0)
        device.faults.nothingIsCached = true
        device.faults.gate = {
            isReading.signal()
            isStopped.wait()
            isStopped.signal()
        }
        let server = try Server.serving(device)
        let client = try NBDTestClient(server, mode, contexts: mode == .simple ? [] : ["base:allocation"])
        client.send(WireRequest(.read, cookie: 1, offset: 3, length: 5000))
        while isReading.wait(timeout: .now()) == .timedOut { try await Task.sleep(for: .milliseconds(1)) }
        async let stopped: Void = server.stop(patience: .seconds(60))
        // The connection has heard of it once it turns others away.
        while let other = try? WireClient(server), try other.receive(18).count == 18 {
            other.close()
            try await Task.sleep(for: .milliseconds(1))
        }
        var late: [WireRequest] = [
            WireRequest(.read, length: 512), .write([UInt8](repeating: 1, count: 200_000), at: 0, mode),
            WireRequest(.flush), WireRequest(.trim, length: 10), WireRequest(.writeZeroes, length: 10),
            WireRequest(.cache, length: 10), WireRequest(.read),
        ]
        if mode == .extended {
            late.append(.blockStatus(Array(client.contexts.values), offset: 0, length: 4096))
        }
        for (index, request) in late.enumerated() { client.send(request.with(cookie: UInt64(index) + 2)) }
        for _ in late {
            let reply = try client.reply()
            #expect(reply.request.cookie != 1)
            #expect(reply.error == 108)
            #expect(mode == .simple || reply.sentence == "the server is being stopped")
        }
        isStopped.signal()
        let reply = try client.reply()
        #expect(reply.request.cookie == 1)
        #expect(reply.data == Array(noise(5003)[3...]))
        #expect(try client.wire.isEnded())
        client.wire.close()
        await stopped
        #expect(device.calls.isEmpty)
    }

    @Test(.timeLimit(.minutes(5))) func `a client that negotiates is told that the server stops`() async throws {
        let server = try Server.serving(MemoryDevice(noise(1000)))
        let client = try WireClient(server)
        try client.greet()
        #expect(try client.ask(8).map(\.type) == [1])
        async let stopped: Void = server.stop(patience: .seconds(60))
        while let other = try? WireClient(server), try other.receive(18).count == 18 {
            other.close()
            try await Task.sleep(for: .milliseconds(1))
        }
        #expect(try client.ask(7, WireOption.info("")).map(\.type) == [0x8000_0007])
        #expect(try client.isEnded())
        await stopped
    }

    @Test(.timeLimit(.minutes(5)), arguments: WireMode.allCases)
    func `a write that is under way is finished before the server stops`(mode: WireMode) async throws {
        let device = MemoryDevice(noise(4 << 20), isWritable: true)
        let server = try Server.serving(device)
        let client = try NBDTestClient(server, mode)
        let request = WireRequest.write([UInt8](repeating: 7, count: 3 << 20), at: 100, cookie: 1, mode)
        let bytes = request.encoded(mode)
        client.wire.send(Array(bytes.prefix(1 << 20)))
        // The first bytes have been taken: the socket would not hold so many.
        async let stopped: Void = server.stop(patience: .seconds(60))
        while let other = try? WireClient(server), try other.receive(18).count == 18 {
            other.close()
            try await Task.sleep(for: .milliseconds(1))
        }
        client.wire.send(Array(bytes.dropFirst(1 << 20)))
        var checker = ReplyChecker(mode)
        checker.expect(request)
        let head = try client.wire.receive(mode.headLength)
        #expect(try checker.take(head[...], [])?.error == 0)
        #expect(try client.wire.isEnded())
        client.wire.close()
        await stopped
        #expect(device.bytes[100..<(100 + (3 << 20))].allSatisfy { $0 == 7 })
    }

    @Test(.timeLimit(.minutes(5)), arguments: WireMode.allCases)
    func `every request that was sent before the stop has a reply, wherever it waits`(mode: WireMode) async throws {
        let device = MemoryDevice(noise(2 << 20))
        let server = try Server.serving(device) { $0.replyBytes = 0 }
        let client = try NBDTestClient(server, mode)
        // More than workers take, and more than one receive brings: most of them wait in the socket.
        let count = 2000
        client.send(
            (1...count).map { WireRequest(.read, cookie: UInt64($0), offset: UInt64($0), length: 100_000) })
        async let stopped: Void = server.stop(patience: .seconds(60))
        while let other = try? WireClient(server), try other.receive(18).count == 18 {
            other.close()
            try await Task.sleep(for: .milliseconds(1))
        }
        var refused = 0
        for _ in 1...count {
            let reply = try client.reply()
            #expect(reply.error == 0 || reply.error == 108)
            if reply.error == 108 { refused += 1 }
        }
        #expect(refused > 0)
        #expect(try client.wire.isEnded())
        client.wire.close()
        await stopped
    }

    @Test(.timeLimit(.minutes(5)), arguments: WireMode.allCases)
    func `a client that is owed nothing is let go at once, whether it hangs up or not`(mode: WireMode) async throws {
        let device = MemoryDevice(noise(1 << 20))
        let server = try Server.serving(device) { $0.farewell = .seconds(100_000) }
        // One has said nothing since the negotiation, one has had replies, one has said good-bye.
        let idle = try NBDTestClient(server, mode)
        let served = try NBDTestClient(server, mode)
        #expect(try served.ask(WireRequest(.read, length: 300_000)).error == 0)
        let departed = try NBDTestClient(server, mode)
        departed.send(WireRequest(.disconnect, cookie: 1))
        #expect(try departed.wire.isEnded())
        await server.stop(patience: .seconds(100_000))
        for client in [idle, served] { #expect(try client.wire.isEnded()) }
        #expect(server.connectionCount == 0)
    }

    @Test(.timeLimit(.minutes(5)), arguments: WireMode.allCases)
    func `a client that has not taken its replies gets them first, and is let go then`(mode: WireMode) async throws {
        let device = MemoryDevice(noise(1 << 20))
        let server = try Server.serving(device) { $0.farewell = .seconds(100_000) }
        let client = try NBDTestClient(server, mode)
        let requests = (0..<8).map { WireRequest(.read, cookie: UInt64($0), offset: UInt64($0), length: 900_000) }
        client.send(requests)
        let first = try client.reply()
        #expect(first.error == 0)
        async let stopped: Void = server.stop(patience: .seconds(100_000))
        while let other = try? WireClient(server), try other.receive(18).count == 18 {
            other.close()
            try await Task.sleep(for: .milliseconds(1))
        }
        for _ in requests.dropFirst() {
            let reply = try client.reply()
            #expect(
                reply.error == 108 || reply.data == Array(noise(1 << 20)[Int(reply.request.offset)...].prefix(900_000)))
        }
        #expect(try client.wire.isEnded())
        // It has not hung up.
        await stopped
    }
}
