// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

@testable import NBDServer

/// NBD specification, "Metadata querying", `NBD_OPT_LIST_META_CONTEXT`, `NBD_OPT_SET_META_CONTEXT`.
@Suite struct MetaContextTests {
    private static let invalid: UInt32 = 0x8000_0003
    private let exports = [
        Export(
            name: "disk", description: "", device: MemoryDevice(noise(4096)),
            bitmaps: [StripedBitmap("monday", stripe: 512), StripedBitmap("tuesday:2", stripe: 1024)]),
        Export(name: "other", description: "", device: MemoryDevice(noise(4096))),
    ]
    private static let all = [
        "base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:monday", "qemu:dirty-bitmap:tuesday:2",
    ]

    private func structured() throws -> TestNegotiation {
        var negotiation = TestNegotiation(exports)
        try #require(try negotiation.ask(8).map(\.type) == [1])
        return negotiation
    }

    private func names(_ replies: [WireOption.Reply]) throws -> [String] {
        try #require(replies.last?.type == 1)
        return replies.dropLast().map { String(decoding: $0.data.dropFirst(4), as: UTF8.self) }
    }

    @Test(
        arguments: [
            ([], all), (["base:"], [all[0]]), (["base:allocation"], [all[0]]), (["qemu:"], Array(all[1...])),
            (["qemu:dirty-bitmap:"], Array(all[2...])), (["qemu:dirty-bitmap:monday"], [all[2]]),
            (["qemu:allocation-depth"], [all[1]]), (["base:", "qemu:", "base:allocation"], all),
            (["base:alloc"], []), (["BASE:ALLOCATION"], []), (["x-other:"], []), (["x-other:", "base:"], [all[0]]),
            (["qemu:dirty-bitmap"], []), (["qemu:dirty-bitmap:mon"], []), ([":"], []), ([":base"], []),
            (["base:\u{301}allocation"], []), (["qemu:allocation-depth:"], []),
        ] as [([String], [String])])
    func `a list has what the queries ask for`(queries: [String], expected: [String]) throws {
        var negotiation = try structured()
        #expect(try names(negotiation.ask(9, WireOption.contexts("disk", queries))) == expected)
    }

    @Test(
        arguments: [
            ([], []), (all, all), (["base:"], []), (["qemu:"], []), (["qemu:dirty-bitmap:"], []),
            (["base:allocation", "base:allocation"], [all[0]]), (["x-other:y", "base:allocation"], [all[0]]),
            (["base:unknown"], []), ([all[3], all[0]], [all[0], all[3]]),
        ] as [([String], [String])])
    func `a choice takes whole names only`(queries: [String], expected: [String]) throws {
        var negotiation = try structured()
        let replies = try negotiation.ask(10, WireOption.contexts("disk", queries))
        #expect(try names(replies) == expected)
        let ids = replies.dropLast().map { Array($0.data.prefix(4)) }
        #expect(Set(ids).count == ids.count)
        _ = try negotiation.ask(7, WireOption.info("disk"))
        #expect(negotiation.session?.contexts.map(\.context.name) == expected)
    }

    @Test(arguments: [9, 10] as [UInt32], ["", "base", "allocation"])
    func `a query without a namespace is INVALID`(type: UInt32, query: String) throws {
        var negotiation = try structured()
        #expect(
            try negotiation.ask(type, WireOption.contexts("disk", ["base:allocation", query])).map(\.type)
                == [Self.invalid])
    }

    @Test(arguments: [9, 10] as [UInt32])
    func `contexts without structured replies are INVALID`(type: UInt32) throws {
        var negotiation = TestNegotiation(exports)
        #expect(try negotiation.ask(type, WireOption.contexts("disk")).map(\.type) == [Self.invalid])
        #expect(try negotiation.ask(11).map(\.type) == [1])
        #expect(try negotiation.ask(type, WireOption.contexts("disk", [Self.all[0]])).map(\.type) == [4, 1])
    }

    @Test func `a second choice replaces the first`() throws {
        var negotiation = try structured()
        _ = try negotiation.ask(10, WireOption.contexts("disk", Self.all))
        _ = try negotiation.ask(10, WireOption.contexts("disk", [Self.all[1]]))
        _ = try negotiation.ask(7, WireOption.info("disk"))
        #expect(negotiation.session?.contexts.map(\.context.name) == [Self.all[1]])
    }

    @Test(
        arguments: [
            WireOption.contexts("nowhere", ["base:allocation"]), WireOption.contexts("disk", ["base"]), [1],
            WireOption.contexts("disk"), [UInt8](repeating: 0, count: 20_000),
        ])
    func `a choice that fails takes the one before away`(data: [UInt8]) throws {
        var negotiation = try structured()
        _ = try negotiation.ask(10, WireOption.contexts("disk", Self.all))
        _ = try negotiation.ask(10, data)
        _ = try negotiation.ask(7, WireOption.info("disk"))
        #expect(try #require(negotiation.session).contexts.isEmpty)
    }

    @Test func `a list leaves the choice alone`() throws {
        var negotiation = try structured()
        _ = try negotiation.ask(10, WireOption.contexts("disk", [Self.all[0]]))
        _ = try negotiation.ask(9, WireOption.contexts("other"))
        _ = try negotiation.ask(7, WireOption.info("disk"))
        #expect(negotiation.session?.contexts.count == 1)
    }

    @Test func `contexts that were chosen for another export are dropped`() throws {
        for type: UInt32 in [1, 7] {
            var negotiation = try structured()
            _ = try negotiation.ask(10, WireOption.contexts("other", [Self.all[0]]))
            let data = type == 1 ? Array("disk".utf8) : WireOption.info("disk")
            _ = negotiation.send(WireOption.encoded(type, data))
            #expect(try #require(negotiation.session).contexts.isEmpty)
        }
    }

    @Test func `the default export is the same under either name`() throws {
        for (first, second) in [("", "disk"), ("disk", "")] {
            var negotiation = try structured()
            _ = try negotiation.ask(10, WireOption.contexts(first, [Self.all[0]]))
            _ = try negotiation.ask(7, WireOption.info(second))
            #expect(negotiation.session?.contexts.count == 1)
        }
    }

    @Test func `more than 64 contexts are TOO_BIG for a choice and not for a list`() throws {
        let bitmaps = (0..<100).map { StripedBitmap("bitmap\($0)", stripe: 512) }
        let device = MemoryDevice(noise(4096))
        var negotiation = TestNegotiation([Export(name: "", description: "", device: device, bitmaps: bitmaps)])
        _ = try negotiation.ask(8)
        let names = try names(negotiation.ask(9, WireOption.contexts("")))
        #expect(names.count == 102)
        #expect(try negotiation.ask(10, WireOption.contexts("", names)).map(\.type) == [0x8000_0009])
        #expect(try negotiation.ask(10, WireOption.contexts("", Array(names.prefix(64)))).count == 65)
        _ = try negotiation.ask(7, WireOption.info(""))
        #expect(negotiation.session?.contexts.count == 64)
    }

    @Test(.timeLimit(.minutes(1)))
    func `thousands of queries about thousands of bitmaps do not take long`() throws {
        let bitmaps = (0..<2000).map { StripedBitmap("bitmap\($0)", stripe: 512) }
        let device = MemoryDevice(noise(4096))
        var negotiation = TestNegotiation([Export(name: "", description: "", device: device, bitmaps: bitmaps)])
        _ = try negotiation.ask(8)
        let queries = (0..<2300).map { _ in "x:y" }
        let clock = ContinuousClock()
        let start = clock.now
        for _ in 0..<10 { #expect(try negotiation.ask(9, WireOption.contexts("", queries)).map(\.type) == [1]) }
        // The loop serves other clients, too.
        #expect(clock.now - start < .seconds(5))
    }
}
