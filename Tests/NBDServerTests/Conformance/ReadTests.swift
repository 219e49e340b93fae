// SPDX-License-Identifier: Apache-2.0

import BlockIO
import NBDServer
import TestSupport
import Testing

/// NBD specification, `NBD_CMD_READ`, "Structured reply chunk message".
///
/// That chunks lie within the request, do not overlap and leave nothing out is what ``ReplyChecker`` demands of all of them.
@Suite struct ReadTests {
    private static let dontFragment = WireRequest.Flag.dontFragment

    /// Data with zeros at 4096..<12288, at 20000..<30000 and in the last third.
    private static let holey: [UInt8] = {
        var bytes = noise(600_000)
        for range in [4096..<12_288, 20_000..<30_000, 400_000..<600_000] {
            bytes.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
        }
        return bytes
    }()

    private static let ranges: [Range<Int>] = [
        0..<1, 0..<4096, 4096..<8192, 4096..<12_288, 4097..<12_287, 0..<600_000, 1..<599_999, 4000..<12_400,
        12_288..<20_000, 20_000..<30_000, 19_999..<30_001, 400_000..<600_000, 401_408..<405_504, 401_409..<405_503,
        599_999..<600_000, 599_000..<600_000, 3..<300_003, 65_536..<131_072,
    ]

    @Test(arguments: WireMode.allCases, [17 << 20, 0])
    func `every read gives the device's bytes, with and without memory for replies`(mode: WireMode, memory: Int) throws
    {
        for nothingIsCached in [false, true] {
            let device = MemoryDevice(Self.holey)
            device.faults.nothingIsCached = nothingIsCached
            let client = try NBDTestClient(.serving(device) { $0.replyBytes = memory }, mode)
            for range in Self.ranges {
                let request = WireRequest(.read, offset: UInt64(range.lowerBound), length: UInt64(range.count))
                let reply = try client.ask(request)
                #expect(reply.error == 0)
                #expect(reply.data == Array(Self.holey[range]), "\(range)")
            }
            for (index, range) in Self.ranges.enumerated() {
                client.send(
                    WireRequest(
                        .read, cookie: UInt64(index), offset: UInt64(range.lowerBound), length: UInt64(range.count)))
            }
            for _ in Self.ranges {
                let reply = try client.reply()
                #expect(reply.data == Array(Self.holey[Self.ranges[Int(reply.request.cookie)]]))
            }
        }
    }

    @Test(arguments: [WireMode.structured, .extended])
    func `zeros are holes between multiples of 4096`(mode: WireMode) throws {
        let client = try NBDTestClient(.serving(MemoryDevice(Self.holey)), mode)
        func pieces(_ range: Range<Int>) throws -> [WireReply.Piece] {
            try client.ask(WireRequest(.read, offset: UInt64(range.lowerBound), length: UInt64(range.count))).pieces
        }
        #expect(try pieces(0..<4096) == [.init(0..<4096, isHole: false)])
        #expect(try pieces(4096..<12_288) == [.init(0..<8192, isHole: true)])
        #expect(
            try pieces(4000..<12_400) == [
                .init(0..<96, isHole: false), .init(96..<8288, isHole: true), .init(8288..<8400, isHole: false),
            ])
        // The ragged ends are zeros, too, and stay data: 4097 to 8192 is no whole unit, and so is what follows 8192.
        #expect(try pieces(4097..<12_287) == [.init(0..<8190, isHole: false)])
        #expect(
            try pieces(4097..<12_288) == [.init(0..<4095, isHole: false), .init(4095..<8191, isHole: true)])
        #expect(
            try pieces(20_000..<30_000) == [
                .init(0..<480, isHole: false), .init(480..<8672, isHole: true), .init(8672..<10_000, isHole: false),
            ])
        #expect(try pieces(4097..<8191) == [.init(0..<4094, isHole: false)])
    }

    @Test(arguments: [WireMode.structured, .extended], [17 << 20, 0])
    func `with DF a read with holes is one chunk of data`(mode: WireMode, memory: Int) throws {
        let client = try NBDTestClient(.serving(MemoryDevice(Self.holey)) { $0.replyBytes = memory }, mode)
        for range in Self.ranges {
            let reply = try client.ask(
                WireRequest(
                    .read, flags: Self.dontFragment, offset: UInt64(range.lowerBound), length: UInt64(range.count)))
            #expect(reply.error == 0)
            #expect(reply.pieces == [.init(0..<range.count, isHole: false)])
            #expect(reply.data == Array(Self.holey[range]))
        }
    }

    @Test func `DF is neither offered nor accepted with simple replies`() throws {
        let client = try NBDTestClient(.serving(MemoryDevice(Self.holey)))
        #expect(client.flags & 0x80 == 0)
        #expect(try client.ask(WireRequest(.read, flags: Self.dontFragment, length: 1)).error == 22)
        #expect(try client.isAlive())
    }

    @Test(arguments: [WireMode.structured, .extended])
    func `a read of more than is served is EOVERFLOW with DF and EINVAL without`(mode: WireMode) throws {
        let device = HugeDevice(size: 1 << 40)
        let client = try NBDTestClient(.serving(device) { $0.requestBytes = 1 << 20 }, mode)
        let length: UInt64 = 1 << 20 + 1
        #expect(try client.ask(WireRequest(.read, length: length)).error == 22)
        #expect(try client.ask(WireRequest(.read, flags: Self.dontFragment, length: length)).error == 75)
        #expect(try client.ask(WireRequest(.read, length: length - 1)).pieces.map(\.isHole) == [true])
    }

    @Test(arguments: WireMode.allCases, [17 << 20, 0])
    func `a read that cannot be served is an error with its place and a sentence`(mode: WireMode, memory: Int) throws {
        for nothingIsCached in [false, true] {
            let device = MemoryDevice(noise(3 << 20))
            device.faults.unreadableByte = 1000
            device.faults.nothingIsCached = nothingIsCached
            let client = try NBDTestClient(.serving(device) { $0.replyBytes = memory }, mode)
            for length: UInt64 in [1, 4096, 60_000] {
                let reply = try client.ask(WireRequest(.read, offset: 1000, length: length))
                #expect(reply.error == 5)
                #expect(reply.pieces.isEmpty)
                if mode != .simple {
                    #expect(reply.errorOffset == 1000)
                    #expect(reply.sentence == "memory: byte 1000 cannot be read")
                }
            }
            #expect(try client.ask(WireRequest(.read, offset: 1001, length: 50)).data == Array(noise(1051)[1001...]))
        }
    }

    @Test(arguments: [WireMode.structured, .extended])
    func `an error in the middle of a read in pieces comes after the pieces before it`(mode: WireMode) throws {
        let bytes = noise(600_000)
        let device = MemoryDevice(bytes)
        device.faults.unreadableByte = 200_000
        let client = try NBDTestClient(.serving(device) { $0.replyBytes = 0 }, mode)
        let reply = try client.ask(WireRequest(.read, offset: 7, length: 500_000))
        #expect(reply.error == 5)
        let offset = try #require(reply.errorOffset)
        #expect(offset > 7 && offset <= 200_000)
        let good = Int(offset) - 7
        #expect(reply.data[..<good] == bytes[7..<(7 + good)])
        #expect(reply.pieces.map(\.range.upperBound).max() == good)
        #expect(try client.isAlive())
    }

    @Test(arguments: [WireMode.structured, .extended])
    func `an error in the middle of a chunk comes after the whole chunk`(mode: WireMode) throws {
        let bytes = noise(600_000)
        let device = MemoryDevice(bytes)
        device.faults.unreadableByte = 200_000
        let client = try NBDTestClient(.serving(device) { $0.replyBytes = 0 }, mode)
        let reply = try client.ask(WireRequest(.read, flags: Self.dontFragment, offset: 7, length: 500_000))
        #expect(reply.error == 5)
        let offset = try #require(reply.errorOffset)
        #expect(offset > 7 && offset <= 200_000)
        let good = Int(offset) - 7
        // What could not be read is zeros.
        #expect(reply.data[..<good] == bytes[7..<(7 + good)])
        #expect(reply.data[good...].allSatisfy { $0 == 0 })
        #expect(reply.pieces == [.init(0..<500_000, isHole: false)])
        #expect(try client.isAlive())
    }

    @Test func `an error behind the head of a simple reply ends the connection`() throws {
        let device = MemoryDevice(noise(600_000))
        device.faults.unreadableByte = 200_000
        let client = try NBDTestClient(.serving(device) { $0.replyBytes = 0 })
        client.send(WireRequest(.read, length: 500_000))
        #expect(try client.wire.receive(16 + 500_000).count < 16 + 200_001)
    }

    @Test(arguments: WireMode.allCases)
    func `the longest read is served whole`(mode: WireMode) throws {
        let device = HugeDevice(size: 1 << 40)
        for flags in mode == .simple ? [0] : [0, Self.dontFragment] {
            for memory in flags == 0 ? [17 << 20, 200 << 20] : [17 << 20] {
                let client = try NBDTestClient(.serving(device) { $0.replyBytes = memory }, mode)
                let reply = try client.ask(WireRequest(.read, flags: flags, offset: 1, length: 64 << 20))
                #expect(reply.error == 0)
                #expect(reply.data.count == 64 << 20)
            }
        }
    }
}
