// SPDX-License-Identifier: Apache-2.0

import BlockIO
import NBDServer
import TestSupport
import Testing

/// A client that knows all of the protocol, and takes nothing for granted that the server says.
final class NBDTestClient {
    let wire: WireClient
    let mode: WireMode
    /// The numbers of the chosen contexts.
    private(set) var contexts: [String: UInt32] = [:]
    /// What the server tells of the export.
    private(set) var size: UInt64 = 0
    private(set) var flags: UInt16 = 0
    private var checker: ReplyChecker
    private var nextCookie: UInt64 = 1000

    /// Negotiates `mode` and the contexts, and chooses an export.
    init(_ server: Server, _ mode: WireMode = .simple, contexts queries: [String] = [], export: String = "") throws {
        wire = try WireClient(server)
        self.mode = mode
        checker = ReplyChecker(mode)
        try wire.greet()
        switch mode {
        case .simple: break
        case .structured: try #require(try wire.ask(8).map(\.type) == [1])
        case .extended: try #require(try wire.ask(11).map(\.type) == [1])
        }
        if !queries.isEmpty {
            for reply in try wire.ask(10, WireOption.contexts(export, queries)) where reply.type == 4 {
                let id = try #require(reply.data.integer(at: 0, UInt32.self))
                contexts[String(decoding: reply.data.dropFirst(4), as: UTF8.self)] = id
            }
            checker = ReplyChecker(mode, contexts: Array(contexts.values))
        }
        let replies = try wire.ask(7, WireOption.info(export, [3]))
        try #require(replies.last?.type == 1)
        let info = try #require(replies.first { $0.type == 3 && $0.data.starts(with: [0, 0]) })
        size = try #require(info.data.integer(at: 2, UInt64.self))
        flags = try #require(info.data.integer(at: 10, UInt16.self))
    }

    /// Sends a request; the reply is to come.
    func send(_ request: WireRequest) {
        checker.expect(request)
        wire.send(request.encoded(mode))
    }

    /// The next reply that is complete.
    func reply() throws -> WireReply {
        while true {
            let head = try wire.receive(mode.headLength)
            try #require(head.count == mode.headLength, "the server has hung up")
            let length = try checker.payloadLength(head[...])
            let payload = try wire.receive(length)
            try #require(payload.count == length, "the server has hung up")
            if let reply = try checker.take(head[...], payload[...]) { return reply }
        }
    }

    /// Sends a request under a cookie of its own and waits for the reply; no other may be under way.
    func ask(_ request: WireRequest) throws -> WireReply {
        nextCookie += 1
        send(request.with(cookie: nextCookie))
        return try reply()
    }

    /// Does the connection still serve?
    func isAlive() throws -> Bool { try ask(WireRequest(.flush)).error == 0 }

    /// The status of a range in one context.
    func status(_ context: String, offset: UInt64, length: UInt64, flags: UInt16 = 0) throws -> [WireReply.Extent] {
        let id = try #require(contexts[context])
        let reply = try ask(WireRequest(.blockStatus, flags: flags, offset: offset, length: length))
        try #require(reply.error == 0)
        return try #require(reply.status[id])
    }
}

extension [UInt8] {
    /// The big-endian integer at an index; nil where there is none.
    func integer<T: FixedWidthInteger & UnsignedInteger>(at index: Int, _ type: T.Type) -> T? {
        var reader = ByteReader(dropFirst(index))
        return reader.integer(type)
    }
}

extension WireClient {
    /// Takes the greeting and answers with the client flags.
    func greet(_ flags: UInt32 = 3) throws {
        try #require(try receive(18) == Array("NBDMAGICIHAVEOPT".utf8) + [0, 3])
        var bytes: [UInt8] = []
        bytes.append(bigEndian: flags)
        send(bytes)
    }

    /// All replies to the next option.
    func replies(to type: UInt32) throws -> [WireOption.Reply] {
        var replies: [WireOption.Reply] = []
        while replies.last?.isFinal != true {
            var (reply, length) = try WireOption.head(try receive(WireOption.headLength)[...])
            reply.data = try receive(length)
            try #require(reply.data.count == length && reply.option == type)
            try WireOption.check(reply)
            replies.append(reply)
        }
        return replies
    }

    /// Sends an option and takes all replies to it.
    func ask(_ type: UInt32, _ data: [UInt8] = []) throws -> [WireOption.Reply] {
        send(WireOption.encoded(type, data))
        return try replies(to: type)
    }
}
