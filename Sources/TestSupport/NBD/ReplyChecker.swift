// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Takes what a server says in the transmission phase, and checks every field of it against what was asked.
///
/// It is stricter than the specification where this server promises more: neighbouring extents differ, none goes beyond
/// what was asked, and every error of a chunk comes with a sentence.
public struct ReplyChecker: Sendable {
    /// The form of the replies.
    public let mode: WireMode
    /// The contexts that have been chosen.
    private let contexts: [UInt32]
    private var open: [UInt64: WireReply] = [:]

    /// - Parameter contexts: their numbers, as the server gave them.
    public init(_ mode: WireMode, contexts: [UInt32] = []) {
        self.mode = mode
        self.contexts = contexts
    }

    /// How many requests have not been answered yet.
    public var openCount: Int { open.count }

    /// A request has been sent; no other with its cookie is under way.
    public mutating func expect(_ request: WireRequest) {
        precondition(open[request.cookie] == nil)
        guard request.command != .disconnect else { return }
        open[request.cookie] = WireReply(request: request)
    }

    /// A head, decoded.
    private struct Head {
        var error: UInt32 = 0
        var flags: UInt16 = 1
        var type: UInt16 = 0
        var cookie: UInt64 = 0
        var payloadLength: UInt64 = 0
    }

    /// How many bytes follow a head of ``WireMode/headLength`` bytes.
    public func payloadLength(_ bytes: ArraySlice<UInt8>) throws(WireFault) -> Int {
        Int(try head(bytes).payloadLength)
    }

    private func head(_ bytes: ArraySlice<UInt8>) throws(WireFault) -> Head {
        var reader = ByteReader(bytes)
        var head = Head()
        let magic = reader.integer(UInt32.self)
        switch mode {
        case .simple:
            guard magic == 0x6744_6698, let error = reader.integer(UInt32.self),
                let cookie = reader.integer(UInt64.self)
            else { throw WireFault("not a simple reply: \(bytes.prefix(16))") }
            (head.error, head.cookie) = (error, cookie)
        case .structured:
            guard magic == 0x668E_33EF, let flags = reader.integer(UInt16.self), let type = reader.integer(UInt16.self),
                let cookie = reader.integer(UInt64.self), let length = reader.integer(UInt32.self)
            else { throw WireFault("not a structured reply: \(bytes.prefix(20))") }
            (head.flags, head.type, head.cookie, head.payloadLength) = (flags, type, cookie, UInt64(length))
        case .extended:
            guard magic == 0x6E8A_278C, let flags = reader.integer(UInt16.self), let type = reader.integer(UInt16.self),
                let cookie = reader.integer(UInt64.self), let offset = reader.integer(UInt64.self),
                let length = reader.integer(UInt64.self)
            else { throw WireFault("not an extended reply: \(bytes.prefix(32))") }
            (head.flags, head.type, head.cookie, head.payloadLength) = (flags, type, cookie, length)
            guard open[cookie].map({ $0.request.offset == offset }) ?? true else {
                throw WireFault("the offset \(offset) is not the request's")
            }
        }
        guard let request = open[head.cookie]?.request else {
            throw WireFault("a reply with the cookie \(head.cookie), which is not under way")
        }
        if mode == .simple, request.command == .read, head.error == 0 { head.payloadLength = request.length }
        guard head.payloadLength <= 64 << 20 + 8 else { throw WireFault("\(head.payloadLength) bytes of payload") }
        guard head.flags & ~1 == 0 else { throw WireFault("the reply flags \(head.flags)") }
        return head
    }

    /// Takes a reply or a chunk: its head, and the payload that ``payloadLength(_:)`` says.
    ///
    /// - Returns: nil when more chunks follow.
    public mutating func take(_ head: ArraySlice<UInt8>, _ payload: ArraySlice<UInt8>) throws(WireFault) -> WireReply? {
        let head = try self.head(head)
        // Taken out meanwhile: the data of a long reply is not copied for each chunk.
        guard var reply = open.removeValue(forKey: head.cookie) else { throw WireFault("nobody asked") }
        if mode == .simple {
            if head.error != 0 { try fail(&reply, head.error) }
            reply.data = Array(payload)
            if !payload.isEmpty { reply.pieces = [.init(0..<payload.count, isHole: false)] }
        } else {
            try take(head, payload, &reply)
        }
        guard head.flags & 1 != 0 else {
            open[head.cookie] = reply
            return nil
        }
        if mode != .simple, reply.error == 0 { try checkComplete(reply) }
        return reply
    }

    /// Takes all messages from `bytes`, which end with a whole one.
    public mutating func takeAll(_ bytes: ArraySlice<UInt8>) throws(WireFault) -> [WireReply] {
        var reader = ByteReader(bytes)
        var replies: [WireReply] = []
        while reader.remaining > 0 {
            guard let head = reader.take(mode.headLength), let payload = reader.take(try payloadLength(head)) else {
                throw WireFault("a reply that ends too early")
            }
            if let reply = try take(head, payload) { replies.append(reply) }
        }
        return replies
    }

    private func take(_ head: Head, _ payload: ArraySlice<UInt8>, _ reply: inout WireReply) throws(WireFault) {
        var reader = ByteReader(payload)
        switch head.type {
        case 0:
            guard payload.isEmpty, head.flags == 1 else { throw WireFault("a NONE chunk that is not the last") }
        case 1:
            guard let offset = reader.integer(UInt64.self), reader.remaining > 0 else {
                throw WireFault("a data chunk without data")
            }
            let range = try addPiece(offset, UInt64(reader.remaining), isHole: false, &reply)
            reply.data.withMutableBytes { data in
                data.withSlice(range) { target in Array(payload.dropFirst(8)).withBytes { target.copy(from: $0) } }
            }
        case 2:
            guard let offset = reader.integer(UInt64.self), let length = reader.integer(UInt32.self), length > 0,
                reader.remaining == 0
            else { throw WireFault("a hole of no size") }
            guard reply.request.flags & WireRequest.Flag.dontFragment == 0 else {
                throw WireFault("a hole in spite of DF")
            }
            _ = try addPiece(offset, UInt64(length), isHole: true, &reply)
        case 5 where mode == .structured: try takeStatus(&reader, isExtended: false, &reply)
        case 6 where mode == .extended: try takeStatus(&reader, isExtended: true, &reply)
        case 0x8001, 0x8002: try takeError(&reader, hasOffset: head.type == 0x8002, &reply)
        default: throw WireFault("a chunk of type \(head.type)")
        }
    }

    /// Where a content chunk belongs in the data.
    private func addPiece(
        _ offset: UInt64, _ length: UInt64, isHole: Bool, _ reply: inout WireReply
    ) throws(WireFault) -> Range<Int> {
        let request = reply.request
        guard request.command == .read else { throw WireFault("data for command \(request.type)") }
        guard reply.error == 0 else { throw WireFault("data after an error") }
        guard offset >= request.offset, offset - request.offset <= request.length,
            length <= request.length - (offset - request.offset)
        else { throw WireFault("\(length) bytes at \(offset) were not asked for") }
        let start = Int(offset - request.offset)
        let range = start..<(start + Int(length))
        guard !reply.pieces.contains(where: { $0.range.overlaps(range) }) else {
            throw WireFault("bytes \(range) have come before")
        }
        if request.flags & WireRequest.Flag.dontFragment != 0, !reply.pieces.isEmpty {
            throw WireFault("two chunks in spite of DF")
        }
        if reply.data.isEmpty { reply.data = [UInt8](repeating: 0, count: Int(request.length)) }
        reply.pieces.append(.init(range, isHole: isHole))
        return range
    }

    private func takeStatus(_ reader: inout ByteReader, isExtended: Bool, _ reply: inout WireReply) throws(WireFault) {
        guard reply.request.command == .blockStatus else { throw WireFault("a status that nobody asked for") }
        let wanted = reply.request.isFiltered ? reply.request.contexts : contexts
        guard let id = reader.integer(UInt32.self), wanted.contains(id) else {
            throw WireFault("the status of a context that was not asked for")
        }
        guard reply.status[id] == nil else { throw WireFault("two chunks for the context \(id)") }
        let count = isExtended ? reader.integer(UInt32.self) : UInt32(reader.remaining / 8)
        guard let count, count > 0, reader.remaining == Int(count) * (isExtended ? 16 : 8) else {
            throw WireFault("a wrong number of extents")
        }
        var extents: [WireReply.Extent] = []
        for _ in 0..<count {
            let length = isExtended ? reader.integer(UInt64.self) : reader.integer(UInt32.self).map(UInt64.init)
            let flags = isExtended ? reader.integer(UInt64.self) : reader.integer(UInt32.self).map(UInt64.init)
            guard let length, let flags, length > 0, flags >> 32 == 0 else { throw WireFault("an empty extent") }
            guard extents.last?.flags != flags else { throw WireFault("two extents of the same kind in a row") }
            extents.append(.init(length, flags))
        }
        var rest = reply.request.effectLength
        for extent in extents {
            guard extent.length <= rest else { throw WireFault("extents beyond what was asked for") }
            rest -= extent.length
        }
        if reply.request.flags & WireRequest.Flag.requestOne != 0, extents.count > 1 {
            throw WireFault("\(extents.count) extents in spite of REQ_ONE")
        }
        reply.status[id] = extents
    }

    private func takeError(_ reader: inout ByteReader, hasOffset: Bool, _ reply: inout WireReply) throws(WireFault) {
        guard let error = reader.integer(UInt32.self), let count = reader.integer(UInt16.self), count <= 4096,
            let text = reader.take(Int(count)), let sentence = String(validating: text, as: UTF8.self)
        else { throw WireFault("an error chunk that is too short") }
        guard sentence.contains(" ") else { throw WireFault("an error without a sentence: '\(sentence)'") }
        guard reply.error == 0 else { throw WireFault("two errors") }
        try fail(&reply, error)
        reply.sentence = sentence
        if hasOffset {
            let request = reply.request
            guard let offset = reader.integer(UInt64.self), offset >= request.offset,
                offset - request.offset < request.effectLength
            else { throw WireFault("the error is outside of the request") }
            switch request.command {
            case .read, .write, .trim, .cache, .writeZeroes, .blockStatus: break
            case .disconnect, .flush, nil: throw WireFault("command \(request.type) has no offset that could fail")
            }
            reply.errorOffset = offset
        }
        guard reader.remaining == 0 else { throw WireFault("\(reader.remaining) bytes behind the error") }
    }

    /// Notes an error value that is allowed for the request.
    private func fail(_ reply: inout WireReply, _ error: UInt32) throws(WireFault) {
        let request = reply.request
        let isAllowed =
            switch error {
            case 1, 5, 22, 28, 108: true
            case 75: request.command == .read && request.flags & WireRequest.Flag.dontFragment != 0
            case 95: request.command == .writeZeroes && request.flags & WireRequest.Flag.fastZero != 0
            default: false
            }
        guard isAllowed else { throw WireFault("the error \(error) for command \(request.type)") }
        reply.error = error
    }

    /// Checks that a reply without an error has all that was asked for.
    private func checkComplete(_ reply: WireReply) throws(WireFault) {
        let request = reply.request
        switch request.command {
        case .read:
            // They do not overlap, and lie within the request.
            guard reply.pieces.reduce(0, { $0 + $1.range.count }) == Int(request.length) else {
                throw WireFault("a read that lacks bytes: \(reply.pieces)")
            }
        case .blockStatus:
            let wanted = request.isFiltered ? request.contexts : contexts
            guard Set(reply.status.keys) == Set(wanted), !wanted.isEmpty else {
                throw WireFault("a status in \(reply.status.keys.sorted()) instead of \(wanted)")
            }
        default: break
        }
    }
}
