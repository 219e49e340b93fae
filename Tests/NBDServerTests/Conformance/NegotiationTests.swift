// SPDX-License-Identifier: Apache-2.0

import BlockIO
import NBDServer
import TestSupport
import Testing

/// NBD specification, "Fixed newstyle negotiation", "Option types", "Option reply types".
@Suite struct NegotiationTests {
    private static let unsupported: UInt32 = 0x8000_0001
    private static let policy: UInt32 = 0x8000_0002
    private static let invalid: UInt32 = 0x8000_0003
    private static let unknown: UInt32 = 0x8000_0006
    private static let blockSizeRequired: UInt32 = 0x8000_0008
    private static let tooBig: UInt32 = 0x8000_0009
    private static let extendedHeadersRequired: UInt32 = 0x8000_000A

    private let server: Server

    init() throws {
        server = try Server.serving([
            Export(name: "first", description: "the first disk", device: MemoryDevice(noise(1000))),
            Export(name: "second", description: "", device: MemoryDevice(noise(512 * 4), alignment: 512)),
            Export(name: "caf\u{E9}", description: "composed", device: MemoryDevice(noise(1))),
            Export(name: "cafe\u{301}", description: "decomposed", device: MemoryDevice(noise(2))),
        ])
    }

    private func client(_ flags: UInt32 = 3) throws -> WireClient {
        let client = try WireClient(server)
        try client.greet(flags)
        return client
    }

    @Test(arguments: [0, 4, 12, 13, 0x7FFF_FFFF, 0xFFFF_FFFF] as [UInt32], [0, 7, 16_384])
    func `an unknown option is refused with UNSUP and the next one is understood`(type: UInt32, count: Int) throws {
        let client = try client()
        #expect(try client.ask(type, [UInt8](repeating: 0x49, count: count)).map(\.type) == [Self.unsupported])
        #expect(try client.ask(7, WireOption.info("first")).last?.type == 1)
    }

    @Test func `STARTTLS without TLS is refused with POLICY`() throws {
        let client = try client()
        let replies = try client.ask(5)
        #expect(replies.map(\.type) == [Self.policy])
        #expect(replies[0].sentence.contains("its operator can switch it on"))
    }

    @Test(arguments: [3, 5, 8, 11] as [UInt32])
    func `data where none belongs is INVALID`(type: UInt32) throws {
        let client = try client()
        #expect(try client.ask(type, [0]).map(\.type) == [Self.invalid])
        #expect(try client.ask(type).last?.type == (type == 5 ? Self.policy : 1))
    }

    @Test(
        arguments: [6, 7] as [UInt32],
        [
            [], [0], [0, 0, 0, 5, 1], [0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 2, 0, 1], [0, 0, 0, 0, 0, 0, 7],
            [0xFF, 0xFF, 0xFF, 0xFF, 0, 0], [0x80, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0xFF, 0xFF],
        ] as [[UInt8]])
    func `INFO and GO whose lengths do not fit each other are INVALID`(type: UInt32, data: [UInt8]) throws {
        let client = try client()
        #expect(try client.ask(type, data).map(\.type) == [Self.invalid])
        #expect(try client.ask(6, WireOption.info("first")).last?.type == 1)
    }

    @Test(
        arguments: [9, 10] as [UInt32],
        [
            [], [0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9, 1], [0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF],
            [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
        ] as [[UInt8]])
    func `metadata options whose lengths do not fit each other are INVALID`(type: UInt32, data: [UInt8]) throws {
        let client = try client()
        #expect(try client.ask(8).map(\.type) == [1])
        #expect(try client.ask(type, data).map(\.type) == [Self.invalid])
        #expect(try client.ask(6, WireOption.info("first")).last?.type == 1)
    }

    @Test func `an export that does not exist is UNKNOWN`() throws {
        let client = try client()
        #expect(try client.ask(8).map(\.type) == [1])
        for type: UInt32 in [6, 7] {
            #expect(try client.ask(type, WireOption.info("third")).map(\.type) == [Self.unknown])
        }
        for type: UInt32 in [9, 10] {
            #expect(try client.ask(type, WireOption.contexts("third")).map(\.type) == [Self.unknown])
        }
    }

    @Test func `names that only look the same are different exports`() throws {
        for (name, size) in [("caf\u{E9}", 1), ("cafe\u{301}", 2)] as [(String, UInt8)] {
            let replies = try client().ask(7, WireOption.info(name, [1]))
            #expect(replies.contains { $0.data.starts(with: [0, 0, 0, 0, 0, 0, 0, 0, 0, size]) })
            #expect(replies.contains { $0.data == [0, 1] + Array(name.utf8) })
        }
    }

    @Test func `an export with a block size of its own wants clients to ask for it`() throws {
        let client = try client()
        for type: UInt32 in [6, 7] {
            let replies = try client.ask(type, WireOption.info("second", [1]))
            #expect(replies.map(\.type) == [3, Self.blockSizeRequired])
            // The block sizes are there, so that the client need not ask a second time.
            #expect(replies[0].data == [0, 3, 0, 0, 2, 0, 0, 0, 16, 0, 2, 0, 0, 0])
        }
        #expect(try client.ask(6, WireOption.info("second", [3])).map(\.type) == [3, 3, 1])
        #expect(try client.ask(7, WireOption.info("second", [1, 3])).map(\.type) == [3, 3, 3, 1])
    }

    @Test func `each kind of information comes once, and those that are not known are ignored`() throws {
        let client = try client()
        let replies = try client.ask(6, WireOption.info("first", [1, 2, 3, 0, 1, 2, 3, 99, 0xFFFF]))
        #expect(replies.dropLast().map { $0.data[1] }.sorted() == [0, 1, 2, 3])
        #expect(replies.contains { $0.data == [0, 1] + Array("first".utf8) })
        #expect(replies.contains { $0.data == [0, 2] + Array("the first disk".utf8) })
    }

    @Test func `the default export is told under its own name`() throws {
        #expect(try client().ask(6, WireOption.info("", [1])).contains { $0.data == [0, 1] + Array("first".utf8) })
    }

    @Test func `GO answers as INFO did`() throws {
        let client = try client()
        let asked = WireOption.info("first", [1, 2, 3])
        let first = try client.ask(6, asked)
        let second = try client.ask(7, asked)
        #expect(first.map(\.data) == second.map(\.data))
    }

    @Test func `option data that is too long is TOO_BIG and skipped`() throws {
        let client = try client()
        for type: UInt32 in [3, 6, 7, 9, 10, 99] {
            #expect(try client.ask(type, [UInt8](repeating: 0, count: 65_536)).map(\.type) == [Self.tooBig])
        }
        #expect(try client.ask(7, WireOption.info("first")).last?.type == 1)
    }

    @Test func `a name of more than 4096 bytes is refused and one of 4096 is looked for`() throws {
        let client = try client()
        #expect(try client.ask(8).map(\.type) == [1])
        for (count, type) in [(4096, Self.unknown), (4097, Self.invalid)] {
            let name = String(repeating: "x", count: count)
            #expect(try client.ask(7, WireOption.info(name)).map(\.type) == [type])
            #expect(try client.ask(9, WireOption.contexts(name)).map(\.type) == [type])
            #expect(
                try client.ask(10, WireOption.contexts("first", ["x:" + name.dropFirst(2)])).map(\.type)
                    == [count == 4096 ? 1 : type])
        }
        client.send(WireOption.encoded(1, [UInt8](repeating: 0x78, count: 4097)))
        #expect(try client.isEnded())
    }

    @Test func `STRUCTURED_REPLY after EXTENDED_HEADERS is EXT_HEADER_REQD`() throws {
        let client = try client()
        #expect(try client.ask(8).map(\.type) == [1])
        #expect(try client.ask(11).map(\.type) == [1])
        #expect(try client.ask(8).map(\.type) == [Self.extendedHeadersRequired])
        let replies = try client.ask(7, WireOption.info("first"))
        // The extended headers stay: the flags say so.
        #expect(replies.contains { $0.data.starts(with: [0, 0]) && $0.data[10] & 0x10 != 0 })
    }

    @Test func `EXPORT_NAME after EXTENDED_HEADERS ends the connection`() throws {
        let client = try client()
        #expect(try client.ask(11).map(\.type) == [1])
        client.send(WireOption.encoded(1, Array("first".utf8)))
        #expect(try client.isEnded())
    }

    @Test(arguments: [4, 0xFFFF_FFFF, 0x8000_0001] as [UInt32])
    func `unknown client flags end the connection`(flags: UInt32) throws {
        #expect(try client(flags).isEnded())
    }

    @Test(arguments: [1, 3] as [UInt32])
    func `EXPORT_NAME is followed by 124 zeroes unless the client wants none`(flags: UInt32) throws {
        let client = try client(flags)
        client.send(WireOption.encoded(1, Array("first".utf8)))
        #expect(try client.receive(8) == [0, 0, 0, 0, 0, 0, 3, 0xE8])
        _ = try client.receive(2)
        if flags & 2 == 0 { #expect(try client.receive(124) == [UInt8](repeating: 0, count: 124)) }
        client.send(client.request(3, cookie: 4))
        #expect(try client.reply() == (0, 4))
    }

    @Test(arguments: [1, 3] as [UInt32])
    func `GO is never followed by zeroes`(flags: UInt32) throws {
        let client = try client(flags)
        #expect(try client.ask(7, WireOption.info("first")).last?.type == 1)
        client.send(client.request(3, cookie: 4))
        #expect(try client.reply() == (0, 4))
    }

    @Test func `options after GO end the connection`() throws {
        let client = try client()
        #expect(try client.ask(7, WireOption.info("first")).last?.type == 1)
        client.send(WireOption.encoded(3, [UInt8](repeating: 0, count: 16)))
        #expect(try client.isEnded())
    }

    @Test func `ABORT is acknowledged, whatever its data, and ends the connection`() throws {
        for data: [UInt8] in [[], [1, 2, 3]] {
            let client = try client()
            #expect(try client.ask(2, data).map(\.type) == [1])
            #expect(try client.isEnded())
        }
    }

    @Test func `more than 256 options end the connection`() throws {
        let client = try client()
        for _ in 0..<256 { #expect(try client.ask(8).map(\.type) == [1]) }
        client.send(WireOption.encoded(8))
        #expect(try client.isEnded())
    }

    @Test func `a flood of options that nobody reads the replies of is survived`() throws {
        let client = try client()
        let flood = Array((0..<300).map { _ in WireOption.encoded(99, [UInt8](repeating: 0, count: 16_000)) }.joined())
        client.send(flood)
        var answers = 0
        while let head = Optional(try client.receive(20)), head.count == 20 {
            let (reply, length) = try WireOption.head(head[...])
            #expect(reply.type == Self.unsupported)
            _ = try client.receive(length)
            answers += 1
        }
        #expect(answers == 256)
        let other = try self.client()
        #expect(try other.ask(7, WireOption.info("first")).last?.type == 1)
    }

    @Test func `many options at once are answered in order`() throws {
        let client = try client()
        client.send(
            WireOption.encoded(8) + WireOption.encoded(99) + WireOption.encoded(3)
                + WireOption.encoded(7, WireOption.info("first")))
        #expect(try client.replies(to: 8).map(\.type) == [1])
        #expect(try client.replies(to: 99).map(\.type) == [Self.unsupported])
        #expect(try client.replies(to: 3).map(\.type) == [2, 2, 2, 2, 1])
        #expect(try client.replies(to: 7).last?.type == 1)
    }

    @Test func `requests that come with the last option are served`() throws {
        let client = try client()
        client.send(WireOption.encoded(7, WireOption.info("first")) + client.request(3, cookie: 4))
        #expect(try client.replies(to: 7).last?.type == 1)
        #expect(try client.reply() == (0, 4))
    }

    @Test func `a list of 2000 exports with long names arrives whole, however slowly it is read`() throws {
        let device = MemoryDevice(noise(1))
        let names = (0..<2000).map { "\($0)-" + String(repeating: "n", count: 4000) }
        let server = try Server.serving(
            names.map { Export(name: $0, description: String(repeating: "d", count: 4096), device: device) })
        let client = try WireClient(server)
        try client.greet()
        // Nobody reads for now; what comes behind has to wait.
        client.send(WireOption.encoded(3) + WireOption.encoded(99))
        let quick = try WireClient(server)
        try quick.greet()
        #expect(try quick.ask(6, WireOption.info(names[1999])).last?.type == 1)
        let replies = try client.replies(to: 3)
        #expect(replies.map(\.type) == [UInt32](repeating: 2, count: 2000) + [1])
        for (reply, name) in zip(replies, names) {
            #expect(reply.data == WireOption.string(name) + [UInt8](repeating: 0x64, count: 4096))
        }
        #expect(try client.replies(to: 99).map(\.type) == [Self.unsupported])
    }

    @Test func `a client that goes away in the middle of a list harms nobody`() throws {
        let device = MemoryDevice(noise(1))
        let server = try Server.serving(
            (0..<500).map { Export(name: "\($0)", description: String(repeating: "d", count: 4096), device: device) })
        for _ in 0..<10 {
            let client = try WireClient(server)
            try client.greet()
            client.send(WireOption.encoded(3))
            _ = try client.receive(100)
            client.close()
        }
        let client = try WireClient(server)
        try client.greet()
        #expect(try client.ask(3).count == 501)
    }
}
