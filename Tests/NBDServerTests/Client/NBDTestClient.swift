// SPDX-License-Identifier: Apache-2.0

import BlockIO
import NBDServer
import TestSupport
import Testing

/// A client that knows all of the protocol, and takes nothing for granted that the server says.
final class NBDTestClient {
    /// For what is against the rules.
    let wire: WireClient
    /// As negotiated.
    let mode: WireMode
    /// The numbers of the chosen contexts.
    private(set) var contexts: [String: UInt32] = [:]
    /// Of the export in bytes, as the server tells it.
    private(set) var size: UInt64 = 0
    /// The transmission flags.
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

    /// Sends requests at once; the replies are to come.
    func send(_ requests: WireRequest...) { send(requests) }

    /// The same. (A socket holds few messages that are sent one by one, however small they are.)
    func send(_ requests: [WireRequest]) {
        for request in requests { checker.expect(request) }
        wire.send(requests.flatMap { $0.encoded(mode) })
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
