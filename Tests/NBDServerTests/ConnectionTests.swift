// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Glibc
import Logging
import NBDServer
import Synchronization
import TestSupport
import Testing

@Suite struct ConnectionTests {
    private static let bytes = (0..<(8 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 11) }

    private func server(
        _ device: any BlockDevice = MemoryDevice(bytes), processors: Int = 2,
        _ change: (inout ServerLimits) -> Void = { _ in }, ended: @escaping @Sendable () -> Void = {}
    ) throws -> Server {
        var limits = ServerLimits.patient
        change(&limits)
        return try Server(
            exports: ExportTable([Export(name: "", description: "", device: device)]), limits: limits,
            processorCount: processors, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            transfersEnded: ended)
    }

    @Test(arguments: [false, true])
    func `pipelined reads of all sizes give the device's bytes`(nothingIsCached: Bool) throws {
        let device = MemoryDevice(Self.bytes)
        device.faults.nothingIsCached = nothingIsCached
        let server = try server(device)
        let client = try WireClient(server)
        try client.negotiate()
        let reads: [(offset: UInt64, length: UInt32)] = [
            (0, 1), (1, 511), (4095, 4097), (100, 65_536), (7, 262_144), (0, 1 << 20), (3, 1 << 20 + 1), (0, 8 << 20),
            (8 << 20 - 1, 1),
        ]
        for (index, read) in reads.enumerated() {
            client.send(client.request(0, cookie: UInt64(index), offset: read.offset, length: read.length))
        }
        var seen: Set<UInt64> = []
        for _ in reads {
            let reply = try client.reply()
            #expect(reply.error == 0)
            let read = reads[Int(reply.cookie)]
            let expected = Self.bytes[Int(read.offset)..<(Int(read.offset) + Int(read.length))]
            #expect(try client.receive(Int(read.length)) == Array(expected))
            seen.insert(reply.cookie)
        }
        #expect(seen.count == reads.count)
    }

    @Test(arguments: [false, true])
    func `with no memory for replies large reads come in pieces and are right`(nothingIsCached: Bool) throws {
        let device = MemoryDevice(Self.bytes)
        device.faults.nothingIsCached = nothingIsCached
        let server = try server(device) { $0.replyBytes = 0 }
        let client = try WireClient(server)
        try client.negotiate()
        for cookie: UInt64 in 0..<4 {
            client.send(client.request(0, cookie: cookie, offset: cookie, length: 300_000))
            client.send(client.request(3, cookie: 100 + cookie))
        }
        for _ in 0..<8 {
            let reply = try client.reply()
            #expect(reply.error == 0)
            guard reply.cookie < 100 else { continue }
            let start = Int(reply.cookie)
            #expect(try client.receive(300_000) == Array(Self.bytes[start..<(start + 300_000)]))
        }
    }

    @Test func `requests that come byte by byte are served`() throws {
        let server = try server()
        let client = try WireClient(server)
        try client.negotiate()
        for byte in client.request(0, cookie: 5, offset: 10, length: 20) { client.send([byte]) }
        #expect(try client.reply() == (0, 5))
        #expect(try client.receive(20) == Array(Self.bytes[10..<30]))
    }

    @Test func `an unreadable place is an error of that request alone`() throws {
        let device = MemoryDevice(Self.bytes)
        device.faults.unreadableByte = 70_000
        let server = try server(device)
        let client = try WireClient(server)
        try client.negotiate()
        for length: UInt32 in [1, 4 << 20] {
            client.send(client.request(0, cookie: 1, offset: 70_000, length: length))
            #expect(try client.reply() == (5, 1))
        }
        client.send(client.request(0, cookie: 2, offset: 0, length: 16))
        #expect(try client.reply() == (0, 2))
        #expect(try client.receive(16) == Array(Self.bytes[..<16]))
    }

    @Test func `a read in pieces that fails late ends the connection`() throws {
        let device = MemoryDevice(Self.bytes)
        device.faults.unreadableByte = 200_000
        let server = try server(device) { $0.replyBytes = 0 }
        let client = try WireClient(server)
        try client.negotiate()
        client.send(client.request(0, cookie: 1, offset: 0, length: 300_000))
        #expect(try client.receive(16 + 300_000).count < 300_000)
    }

    @Test func `a write is refused, its payload skipped, and the connection goes on`() throws {
        let server = try server()
        let client = try WireClient(server)
        try client.negotiate()
        client.send(client.request(1, cookie: 1, offset: 0, length: 3_000_000))
        client.send([UInt8](repeating: 0x25, count: 3_000_000))
        client.send(client.request(0, cookie: 2, offset: 0, length: 4))
        #expect(try client.reply() == (1, 1))
        #expect(try client.reply() == (0, 2))
        #expect(try client.receive(4) == Array(Self.bytes[..<4]))
    }

    @Test(
        arguments: [
            (4, 0, 1), (5, 1, 22), (6, 0, 1), (7, 0, 22), (77, 0, 22), (0, 1, 22), (3, 0, 0),
        ] as [(UInt16, UInt16, UInt32)])
    func `what is not offered is refused and the connection goes on`(type: UInt16, flags: UInt16, error: UInt32) throws
    {
        let server = try server()
        let client = try WireClient(server)
        try client.negotiate()
        client.send(client.request(type, cookie: 9, flags: flags))
        #expect(try client.reply() == (error, 9))
        client.send(client.request(3, cookie: 10))
        #expect(try client.reply() == (0, 10))
    }

    @Test func `DISC ends the connection after the replies before it`() throws {
        let server = try server()
        let client = try WireClient(server)
        try client.negotiate()
        client.send(client.request(0, cookie: 1, offset: 0, length: 4 << 20) + client.request(2, cookie: 2))
        #expect(try client.reply() == (0, 1))
        #expect(try client.receive(4 << 20) == Array(Self.bytes[..<(4 << 20)]))
        #expect(try client.isEnded())
    }

    @Test(arguments: [Array("GET / HTTP/1.1\r\n\r\n".utf8), [0, 0, 0, 3, 0, 0, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF]])
    func `garbage ends the connection of its sender alone`(garbage: [UInt8]) throws {
        let server = try server()
        let good = try WireClient(server)
        try good.negotiate()
        let bad = try WireClient(server)
        bad.send(garbage + [UInt8](repeating: 0, count: 64))
        #expect(try bad.receive(1000).count == 18)
        good.send(good.request(0, cookie: 1, offset: 0, length: 1))
        #expect(try good.reply() == (0, 1))
    }

    @Test func `garbage after the negotiation ends the connection`() throws {
        let server = try server()
        let client = try WireClient(server)
        try client.negotiate()
        client.send([UInt8](repeating: 0x47, count: 28))
        #expect(try client.isEnded())
    }

    @Test func `a client that hangs up in the middle of a reply harms nobody`() throws {
        let server = try server()
        for _ in 0..<20 {
            let rude = try WireClient(server)
            try rude.negotiate()
            for cookie: UInt64 in 0..<20 { rude.send(rude.request(0, cookie: cookie, offset: 0, length: 1 << 20)) }
            _ = try rude.receive(1000)
            rude.close()
        }
        let good = try WireClient(server)
        try good.negotiate()
        good.send(good.request(0, cookie: 1, offset: 0, length: 1 << 20))
        #expect(try good.reply() == (0, 1))
        #expect(try good.receive(1 << 20) == Array(Self.bytes[..<(1 << 20)]))
    }

    @Test(.timeLimit(.minutes(5)))
    func `a client that vanished before it had anything has transferred nothing`() async throws {
        let ends = Mutex(0)
        let device = MemoryDevice(Self.bytes)
        let clientsAreGone = DispatchSemaphore(value: 0)
        device.faults.nothingIsCached = true
        device.faults.gate = {
            clientsAreGone.wait()
            clientsAreGone.signal()
        }
        let server = try server(device, ended: { ends.withLock { $0 += 1 } })
        for cookie: UInt64 in 0..<30 {
            let client = try WireClient(server)
            try client.negotiate()
            client.send(client.request(0, cookie: cookie, offset: 0, length: 8 << 20))
            client.close()
        }
        clientsAreGone.signal()
        while server.connectionCount > 0 { try await Task.sleep(for: .milliseconds(20)) }
        // Had one of them transferred anything, the end of a client that only looks would be an end, too.
        let probe = try WireClient(server)
        try probe.negotiate()
        probe.send(probe.request(0, cookie: 1, offset: 0, length: 512))
        #expect(try probe.reply() == (0, 1))
        probe.close()
        while server.connectionCount > 0 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(ends.withLock { $0 } == 0)
    }

    @Test func `of an empty disk a good-bye is the whole transfer`() async throws {
        let ends = Mutex(0)
        let server = try server(MemoryDevice([]), ended: { ends.withLock { $0 += 1 } })
        let client = try WireClient(server)
        try client.negotiate()
        client.send(client.request(2, cookie: 1))
        #expect(try client.isEnded())
        client.close()
        for _ in 0..<200 where ends.withLock({ $0 }) == 0 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(ends.withLock { $0 } == 1)
    }

    @Test func `a hang-up is noticed whatever came just before it`() async throws {
        let server = try server()
        let tails: [(WireClient) -> [UInt8]] = [
            { $0.request(2, cookie: 1) }, { _ in [1, 2, 3] },
            { $0.request(1, cookie: 1, length: 1 << 20) + [UInt8](repeating: 0, count: 150_000) },
        ]
        for round in 0..<60 {
            let client = try WireClient(server)
            try client.negotiate()
            client.send(tails[round % tails.count](client))
            client.close()
        }
        for _ in 0..<100 where server.connectionCount > 0 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(server.connectionCount == 0)
    }

    @Test func `a client that does not negotiate is sent away in time`() throws {
        let server = try server { $0.negotiation = .milliseconds(50) }
        let client = try WireClient(server)
        _ = try client.receive(18)
        #expect(try client.isEnded())
    }

    @Test func `a negotiated client may be idle for as long as it likes`() throws {
        let server = try server { $0.negotiation = .milliseconds(50) }
        let client = try WireClient(server)
        try client.negotiate()
        // One that came later and has not negotiated is sent away: the time is over.
        let silent = try WireClient(server)
        _ = try silent.receive(18)
        #expect(try silent.isEnded())
        client.send(client.request(3, cookie: 1))
        #expect(try client.reply() == (0, 1))
    }

    @Test func `when all places are taken a client that has not negotiated makes room`() throws {
        let server = try server { $0.connections = 3 }
        let first = try WireClient(server)
        try first.negotiate()
        let idle = try WireClient(server)
        _ = try idle.receive(18)
        let second = try WireClient(server)
        try second.negotiate()
        let third = try WireClient(server)
        try third.negotiate()
        #expect(try idle.isEnded())
        let fourth = try WireClient(server)
        #expect(try fourth.isEnded())
        first.send(first.request(3, cookie: 1))
        #expect(try first.reply() == (0, 1))
    }

    @Test func `stopping lets the replies under way leave and closes everything`() async throws {
        let device = MemoryDevice(Self.bytes)
        device.faults.nothingIsCached = true
        let server = try server(device)
        let client = try WireClient(server)
        try client.negotiate()
        client.send(client.request(0, cookie: 1, offset: 0, length: 8 << 20))
        #expect(try client.reply() == (0, 1))
        async let stopped: Void = server.stop(patience: .seconds(3600))
        while let other = try? WireClient(server), try other.receive(18).count == 18 {
            other.close()
            try await Task.sleep(for: .milliseconds(1))
        }
        #expect(try client.receive(8 << 20) == Self.bytes)
        #expect(try client.isEnded())
        client.close()
        await stopped
        #expect(server.bytesRead == 8 << 20)
    }

    @Test func `stopping cuts off a client that does not take its replies`() async throws {
        let server = try server()
        let client = try WireClient(server)
        try client.negotiate()
        for cookie: UInt64 in 0..<10 { client.send(client.request(0, cookie: cookie, offset: 0, length: 8 << 20)) }
        #expect(try client.reply().error == 0)
        await server.stop(patience: .milliseconds(50))
    }

    @Test func `the end of the transfers is told for readers and not for those who look`() async throws {
        let isLast = Atomic(false)
        // Was the last reader leaving when the end was told?
        let told = Mutex<[Bool]>([])
        let server = try server(ended: { told.withLock { $0.append(isLast.load(ordering: .relaxed)) } })
        func read(_ client: WireClient, _ length: UInt32) throws {
            client.send(client.request(0, cookie: 1, offset: 0, length: length))
            #expect(try client.reply() == (0, 1))
            #expect(try client.receive(Int(length)).count == Int(length))
        }
        let probe = try WireClient(server)
        try probe.negotiate()
        try read(probe, 8192)
        let scan = try WireClient(server)
        scan.close()
        probe.send(probe.request(2, cookie: 2))
        #expect(try probe.isEnded())
        let first = try WireClient(server)
        try first.negotiate()
        let second = try WireClient(server)
        try second.negotiate()
        try read(first, 20_000)
        try read(second, 1)
        first.send(first.request(2, cookie: 2))
        #expect(try first.isEnded())
        isLast.store(true, ordering: .relaxed)
        second.send(second.request(2, cookie: 2))
        #expect(try second.isEnded())
        while server.connectionCount > 0 || told.withLock({ $0.isEmpty }) {
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(told.withLock { $0 } == [true])
    }

    @Test(arguments: [2, 1])
    func `large reads of a client are served at once when a processor is idle, small ones are not`(
        processors: Int
    ) throws {
        for (length, atOnce) in [(64 << 10, processors), (64 << 10 - 1, 1)] {
            let device = CrowdedDevice(size: 1 << 20)
            let client = try WireClient(try server(device, processors: processors))
            try client.negotiate()
            let requests = (0..<4).flatMap { cookie in
                client.request(0, cookie: UInt64(cookie), offset: 0, length: UInt32(length))
            }
            client.send(requests)
            for _ in 0..<4 {
                #expect(try client.reply().error == 0)
                #expect(try client.receive(length).count == length)
            }
            #expect(device.largestCrowd == atOnce)
        }
    }

    @Test(arguments: [0, 1, 5000])
    func `replies that workers send come whole, however slowly the client takes them`(pause: Int) throws {
        let device = MemoryDevice(Self.bytes)
        let client = try WireClient(try server(device))
        try client.negotiate()
        // Much more than fits into the socket: workers and the loop find it full in the middle of replies.
        let reads = (0..<100).map { index in
            (offset: index * 70_001, length: [65_536, 200_000, 700_000, 100][index % 4])
        }
        let requests = reads.enumerated().flatMap { cookie, read in
            client.request(0, cookie: UInt64(cookie), offset: UInt64(read.offset), length: UInt32(read.length))
        }
        client.send(requests)
        var seen: Set<UInt64> = []
        for _ in reads {
            let reply = try client.reply()
            try #require(reply.error == 0 && reply.cookie < 100)
            seen.insert(reply.cookie)
            let (offset, length) = reads[Int(reply.cookie)]
            if pause > 0 { usleep(UInt32(pause)) }
            #expect(try client.receive(length) == Array(Self.bytes[offset..<(offset + length)]))
        }
        #expect(seen.count == reads.count)
    }

    @Test func `no reply of a worker overtakes the negotiation`() throws {
        let server = try server(MemoryDevice(Self.bytes))
        for _ in 0..<50 {
            let client = try WireClient(server)
            let requests = (0..<6).flatMap { client.request(0, cookie: UInt64($0), length: 64 << 10) }
            // Everything at once, before the server has said anything.
            client.send([0, 0, 0, 3] + WireOption.encoded(7, WireOption.info("")) + requests)
            #expect(try client.receive(18).count == 18)
            let replies = try WireOption.replies(try client.receive(34 + 32 + 20)[...])
            #expect(replies.last?.type == 1)
            for _ in 0..<6 {
                #expect(try client.reply().error == 0)
                #expect(try client.receive(64 << 10) == Array(Self.bytes[..<(64 << 10)]))
            }
        }
    }

    @Test func `what workers have sent counts, also for a client that goes at once`() async throws {
        let ends = Mutex(0)
        let device = MemoryDevice(Self.bytes)
        device.faults.nothingIsCached = true
        let server = try server(device, ended: { ends.withLock { $0 += 1 } })
        for index in 1...100 {
            let client = try WireClient(server)
            try client.negotiate()
            client.send(client.request(0, cookie: 1, offset: 0, length: 100_000))
            #expect(try client.receive(16 + 100_000).count == 16 + 100_000)
            client.close()
            for _ in 0..<5000 where server.connectionCount > 0 { try await Task.sleep(for: .milliseconds(2)) }
            #expect(ends.withLock { $0 } == index)
        }
        #expect(server.bytesRead == 100 * 100_000)
    }

    @Test func `a client that has got errors alone does not keep the end of the transfers back`() async throws {
        let ends = Mutex(0)
        let device = MemoryDevice(Self.bytes)
        device.faults.nothingIsCached = true
        device.faults.unreadableByte = 5 << 20
        let server = try server(device, ended: { ends.withLock { $0 += 1 } })
        let unlucky = try WireClient(server)
        try unlucky.negotiate()
        unlucky.send(unlucky.request(0, cookie: 1, offset: 5 << 20, length: 100_000))
        #expect(try unlucky.reply() == (5, 1))
        let reader = try WireClient(server)
        try reader.negotiate()
        reader.send(reader.request(0, cookie: 2, offset: 0, length: 100_000))
        #expect(try reader.receive(16 + 100_000).count == 16 + 100_000)
        reader.close()
        for _ in 0..<5000 where server.connectionCount > 1 { try await Task.sleep(for: .milliseconds(2)) }
        #expect(ends.withLock { $0 } == 1)
    }

    @Test func `a client that goes while workers send takes its socket with it`() async throws {
        let server = try server(MemoryDevice(Self.bytes))
        for index in 0..<60 {
            let client = try WireClient(server)
            try client.negotiate()
            let requests = (0..<40).flatMap { cookie in
                client.request(0, cookie: UInt64(cookie), offset: UInt64(cookie), length: 300_000)
            }
            client.send(requests)
            _ = try client.receive(index * 1000)
            client.close()
        }
        for _ in 0..<500 where server.connectionCount > 0 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(server.connectionCount == 0)
    }

    @Test func `a reply of 64 KiB leaves before the next read is served`() throws {
        let gate = DispatchSemaphore(value: 0)
        let device = CrowdedDevice(size: 1 << 20) { offset in if offset > 0 { gate.wait() } }
        let client = try WireClient(try server(device, processors: 1))
        try client.negotiate()
        client.send(
            client.request(0, cookie: 1, offset: 0, length: 64 << 10)
                + client.request(0, cookie: 2, offset: 4096, length: 64 << 10))
        #expect(try client.reply() == (0, 1))
        #expect(try client.receive(64 << 10).count == 64 << 10)
        gate.signal()
        #expect(try client.reply() == (0, 2))
        #expect(try client.receive(64 << 10).count == 64 << 10)
    }
}

/// A disk of zeros that remembers how many reads were under way at once. Each waits for company for a while.
private final class CrowdedDevice: ReadOnlyDevice {
    let depth = 8
    let size: UInt64
    let alignment = 1
    private let gate: @Sendable (UInt64) -> Void
    private let state = Mutex((now: 0, most: 0))

    init(size: UInt64, gate: @escaping @Sendable (UInt64) -> Void = { _ in }) {
        (self.size, self.gate) = (size, gate)
    }

    var largestCrowd: Int { state.withLock { $0.most } }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        state.withLock { state in
            state.now += 1
            state.most = max(state.most, state.now)
        }
        gate(offset)
        for _ in 0..<20 where state.withLock({ $0.most < 2 }) { usleep(5000) }
        buffer.clear()
        state.withLock { $0.now -= 1 }
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) {}
}
