// SPDX-License-Identifier: Apache-2.0

import BlockIO
import NBDServer
import Synchronization
import TestSupport
import Testing

/// NBD specification, `NBD_CMD_BLOCK_STATUS`, and the extension of extended headers.
@Suite struct BlockStatusTests {
    private typealias Extent = WireReply.Extent
    private typealias Flag = WireRequest.Flag
    private static let modes = [WireMode.structured, .extended]
    private static let allocation = "base:allocation"
    private static let depth = "qemu:allocation-depth"
    private static let bitmap = "qemu:dirty-bitmap:stripes"

    private static func server() throws -> Server {
        let device = MemoryDevice(
            noise(100_000),
            extents: [
                Extent_(offset: 4096, length: 4096, kind: .zero, depth: 2),
                Extent_(offset: 8192, length: 8192, kind: .unallocated),
                Extent_(offset: 20_480, length: 4096, kind: .storedZeros),
                Extent_(offset: 24_576, length: 4096, kind: .compressed, depth: 3),
            ])
        return try .serving(device, bitmaps: [StripedBitmap("stripes", stripe: 8192)])
    }

    @Test(arguments: modes)
    func `each context tells what the device knows`(mode: WireMode) throws {
        let client = try NBDTestClient(try Self.server(), mode, contexts: [Self.allocation, Self.depth, Self.bitmap])
        #expect(
            try client.status(Self.allocation, offset: 0, length: 100_000) == [
                Extent(4096, 0), Extent(12_288, 3), Extent(4096, 0), Extent(4096, 2), Extent(75_424, 0),
            ])
        #expect(
            try client.status(Self.depth, offset: 0, length: 100_000) == [
                Extent(4096, 1), Extent(4096, 2), Extent(8192, 0), Extent(8192, 1), Extent(4096, 3), Extent(71_328, 1),
            ])
        #expect(
            try client.status(Self.bitmap, offset: 0, length: 40_000) == [
                Extent(8192, 1), Extent(8192, 0), Extent(8192, 1), Extent(8192, 0), Extent(7232, 1),
            ])
    }

    @Test(arguments: modes)
    func `only what was asked for is told`(mode: WireMode) throws {
        let client = try NBDTestClient(try Self.server(), mode, contexts: [Self.allocation])
        #expect(try client.status(Self.allocation, offset: 5000, length: 1) == [Extent(1, 3)])
        #expect(try client.status(Self.allocation, offset: 99_999, length: 1) == [Extent(1, 0)])
        #expect(try client.status(Self.allocation, offset: 4095, length: 2) == [Extent(1, 0), Extent(1, 3)])
    }

    @Test(arguments: modes)
    func `REQ_ONE gives one extent for each context`(mode: WireMode) throws {
        let client = try NBDTestClient(try Self.server(), mode, contexts: [Self.allocation, Self.depth, Self.bitmap])
        let reply = try client.ask(WireRequest(.blockStatus, flags: Flag.requestOne, offset: 4096, length: 90_000))
        #expect(reply.status.count == 3)
        #expect(reply.status[try #require(client.contexts[Self.allocation])] == [Extent(12_288, 3)])
        #expect(reply.status[try #require(client.contexts[Self.depth])] == [Extent(4096, 2)])
        #expect(reply.status[try #require(client.contexts[Self.bitmap])] == [Extent(4096, 1)])
    }

    @Test(arguments: WireMode.allCases)
    func `a status without a context is EINVAL`(mode: WireMode) throws {
        let client = try NBDTestClient(try Self.server(), mode)
        #expect(try client.ask(WireRequest(.blockStatus, length: 4096)).error == 22)
        if mode == .extended {
            #expect(try client.ask(.blockStatus([1], offset: 0, length: 4096)).error == 22)
            #expect(try client.ask(.blockStatus([], offset: 0, length: 4096)).error == 22)
        }
        #expect(try client.isAlive())
    }

    @Test(arguments: modes)
    func `a status that cannot be had is an error where it begins, and ends the answer elsewhere`(mode: WireMode) throws
    {
        let device = MemoryDevice(
            noise(100_000), extents: [Extent_(offset: 4096, length: 4096, kind: .zero)])
        device.faults.unreadableByte = 8192
        let client = try NBDTestClient(.serving(device), mode, contexts: [Self.allocation, Self.depth])
        #expect(
            try client.status(Self.allocation, offset: 0, length: 50_000) == [Extent(4096, 0), Extent(4096, 3)])
        let reply = try client.ask(WireRequest(.blockStatus, offset: 8192, length: 50_000))
        #expect(reply.error == 5)
        #expect(reply.errorOffset == 8192)
        #expect(reply.sentence == "memory: byte 8192 cannot be examined")
    }

    @Test(arguments: modes)
    func `what is in memory is told without a worker, and by one it is told alike`(mode: WireMode) throws {
        let device = MemoryDevice(
            noise(100_000), extents: [Extent_(offset: 4096, length: 4096, kind: .zero, depth: 2)])
        let looksOfWorkers = Atomic(0)
        device.faults.gate = { looksOfWorkers.add(1, ordering: .relaxed) }
        let client = try NBDTestClient(.serving(device), mode, contexts: [Self.allocation, Self.depth])
        let expected = [Extent(4096, 0), Extent(4096, 3), Extent(91_808, 0)]
        #expect(try client.status(Self.allocation, offset: 0, length: 100_000) == expected)
        #expect(looksOfWorkers.load(ordering: .relaxed) == 0)
        device.faults.nothingIsCached = true
        #expect(try client.status(Self.allocation, offset: 0, length: 100_000) == expected)
        #expect(looksOfWorkers.load(ordering: .relaxed) == 6)
    }

    @Test(arguments: modes)
    func `an answer of more looks than the loop takes is a worker's`(mode: WireMode) throws {
        let client = try NBDTestClient(
            .serving(HugeDevice(size: 1 << 40, period: 512)), mode, contexts: [Self.allocation])
        let extents = try client.status(Self.allocation, offset: 0, length: 1 << 30)
        #expect(extents.count > 1000)
        #expect(extents.enumerated().allSatisfy { $1 == Extent(512, $0.isMultiple(of: 2) ? 3 : 0) })
    }

    @Test(arguments: modes)
    func `the answer to a question about very many extents is a part of it`(mode: WireMode) throws {
        let contexts = (0..<62).map { StripedBitmap("bitmap\($0)", stripe: 512) }
        let server = try Server.serving(HugeDevice(size: 1 << 40, period: 4096), bitmaps: contexts)
        let all = [Self.allocation, Self.depth] + (0..<62).map { "qemu:dirty-bitmap:bitmap\($0)" }
        for names in [[Self.allocation], all] {
            let client = try NBDTestClient(server, mode, contexts: names)
            var position: UInt64 = 100
            for _ in 0..<20 {
                let extents = try client.status(Self.allocation, offset: position, length: 0xFFFF_FFFF)
                #expect(extents.count > 16)
                for extent in extents {
                    // A zero extent is a hole here, and they alternate.
                    #expect(extent.flags == ((position / 4096).isMultiple(of: 2) ? 3 : 0))
                    position += extent.length
                    #expect(position.isMultiple(of: 4096))
                }
            }
        }
    }

    @Test func `with extended headers lengths have 64 bits`() throws {
        let device = HugeDevice(size: 1 << 62, isWritable: true, period: 1 << 40)
        let client = try NBDTestClient(.serving(device), .extended, contexts: [Self.allocation])
        #expect(
            try client.status(Self.allocation, offset: 1, length: 1 << 41 + 5) == [
                Extent(1 << 40 - 1, 3), Extent(1 << 40, 0), Extent(6, 3),
            ])
        let whole = try client.status(Self.allocation, offset: 0, length: 1 << 62)
        #expect(whole.first == Extent(1 << 40, 3))
        #expect(try client.ask(WireRequest(.trim, offset: 7, length: 1 << 61)).error == 0)
        #expect(try client.ask(WireRequest(.writeZeroes, offset: 0, length: 1 << 62)).error == 0)
        #expect(try client.ask(WireRequest(.cache, offset: 0, length: 1 << 62)).error == 0)
        let range = try #require(ByteRange(offset: 7, length: 1 << 61))
        let all = try #require(ByteRange(offset: 0, length: 1 << 62))
        let start = try #require(ByteRange(offset: 0, length: 256 << 20))
        #expect(device.calls == [.discard(range), .zero(all, [.mayDiscard, .fastOnly]), .prefetch(start)])
        for length: UInt64 in [1 << 62 + 1, .max] {
            for (command, error) in [(.read, 22), (.trim, 22), (.cache, 22), (.writeZeroes, 28), (.blockStatus, 22)]
                as [(WireRequest.Command, UInt32)]
            {
                #expect(try client.ask(WireRequest(command, offset: 1, length: length)).error == error)
            }
        }
        #expect(try client.ask(WireRequest(.read, length: 1 << 33)).error == 22)
    }

    @Test func `without extended headers an extent has less than 4 GiB`() throws {
        let device = HugeDevice(size: 1 << 62, period: 1 << 40)
        let client = try NBDTestClient(.serving(device), .structured, contexts: [Self.allocation])
        #expect(try client.status(Self.allocation, offset: 0, length: 0xFFFF_FFFF) == [Extent(0xFFFF_FFFF, 3)])
    }

    // MARK: Filters

    private static func filtered() throws -> (client: NBDTestClient, ids: [UInt32]) {
        let client = try NBDTestClient(server(), .extended, contexts: [allocation, depth, bitmap])
        return (client, try [allocation, depth, bitmap].map { try #require(client.contexts[$0]) })
    }

    @Test func `a filter chooses among the contexts`() throws {
        let (client, ids) = try Self.filtered()
        for chosen in [[ids[0]], [ids[2], ids[1]], [ids[1]], ids] {
            let reply = try client.ask(.blockStatus(chosen, offset: 4096, length: 4096))
            #expect(reply.error == 0)
            #expect(Set(reply.status.keys) == Set(chosen))
            if chosen.contains(ids[1]) { #expect(reply.status[ids[1]] == [Extent(4096, 2)]) }
        }
        let one = try client.ask(.blockStatus([ids[0]], offset: 0, length: 100_000, flags: Flag.requestOne))
        #expect(one.status[ids[0]] == [Extent(4096, 0)])
        #expect(try client.isAlive())
    }

    @Test func `a filter that is wrong is EINVAL and its payload is skipped`() throws {
        let (client, ids) = try Self.filtered()
        let unknown: [[UInt32]] = [[0], [99], [ids[0], 99], [.max], [], [ids[0], ids[0]], ids + [ids[0]]]
        for chosen in unknown {
            #expect(try client.ask(.blockStatus(chosen, offset: 0, length: 4096)).error == 22, "\(chosen)")
        }
        for count in [0, 1, 4, 7, 8, 9, 11, 13, 14, 15, 21, 24, 4096, 100_000] {
            var payload = WireRequest.blockStatus(ids, offset: 0, length: 4096).payload
            payload = Array((payload + [UInt8](repeating: 0, count: 100_000)).prefix(count))
            let request = WireRequest(
                type: 7, flags: Flag.payloadLength, length: UInt64(count), payload: payload)
            #expect(try client.ask(request).error == 22, "\(count)")
        }
        #expect(try client.isAlive())
    }

    @Test func `the range of a filter is judged as any other`() throws {
        let (client, ids) = try Self.filtered()
        let ranges: [(UInt64, UInt64)] = [
            (0, 0), (0, 100_001), (100_000, 1), (.max, 1), (1, .max), (100_001, 0), (50_000, 1 << 63),
        ]
        for (offset, length) in ranges {
            #expect(
                try client.ask(.blockStatus(ids, offset: offset, length: length)).error == 22, "\(offset) \(length)")
        }
        let aligned = MemoryDevice(noise(8192), alignment: 512)
        let other = try NBDTestClient(.serving(aligned), .extended, contexts: [Self.allocation])
        let id = try #require(other.contexts[Self.allocation])
        for (offset, length) in [(1, 512), (0, 100), (512, 513)] as [(UInt64, UInt64)] {
            #expect(try other.ask(.blockStatus([id], offset: offset, length: length)).error == 22)
        }
        #expect(try other.ask(.blockStatus([id], offset: 512, length: 1024)).status[id] == [Extent(1024, 0)])
    }

    @Test func `a filter that comes in pieces is understood`() throws {
        let (client, ids) = try Self.filtered()
        let request = WireRequest.blockStatus(ids, offset: 0, length: 4096, cookie: 1)
        client.send(WireRequest(.flush, cookie: 0))
        #expect(try client.reply().error == 0)
        var checker = ReplyChecker(.extended, contexts: ids)
        checker.expect(request)
        for byte in request.encoded(.extended) { client.wire.send([byte]) }
        var reply: WireReply?
        while reply == nil {
            let head = try client.wire.receive(32)
            let payload = try client.wire.receive(try checker.payloadLength(head[...]))
            reply = try checker.take(head[...], payload[...])
        }
        #expect(reply?.error == 0)
    }
}

/// The device's kind of extent, beside the wire's.
private typealias Extent_ = BlockIO.Extent
