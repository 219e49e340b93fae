// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport

@testable import NBDServer

private let contents: [UInt8] = {
    var bytes = (0..<40_960).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) | 1 }
    for range in [4096..<12_288, 13_000..<22_000, 30_000..<40_960] {
        bytes.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
    }
    return bytes
}()
private let extents = [
    Extent(offset: 4096, length: 8192, kind: .unallocated), Extent(offset: 16_384, length: 4096, kind: .storedZeros),
    Extent(offset: 32_768, length: 4096, kind: .zero, depth: 2),
]
private let memory = PayloadShare(of: PayloadBufferPool(maximumBytes: 1 << 20))

/// Requests in each reply mode, whose replies are checked field by field, and against what a disk must do.
///
/// The first byte chooses the mode and the export, the second how long the pieces of a large read are.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzRequests(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard bytes.count > 2 else { return 0 }
    var client = Client(first: bytes[0], second: bytes[1])
    if bytes[0] & 0x80 != 0 {
        client.serve(raw: bytes[2...])
    } else {
        client.serve(recipe: bytes[2...])
    }
    client.finish()
    return 0
}

/// A client of one session, and what it knows of the disk.
private struct Client {
    let mode: WireMode
    let session: Session
    let device: MemoryDevice
    let alignment: UInt64
    let pieceLength: Int
    private var checker: ReplyChecker
    private var expected = contents

    init(first: UInt8, second: UInt8) {
        let modes: [(WireMode, ReplyMode)] = [(.simple, .simple), (.structured, .structured), (.extended, .extended)]
        let (mode, replyMode) = modes[Int(first & 3) % 3]
        self.mode = mode
        alignment = first & 16 != 0 ? 512 : 1
        device = MemoryDevice(contents, alignment: Int(alignment), isWritable: first & 4 != 0, extents: extents)
        if first & 32 != 0 { device.faults.unreadableByte = 8192 }
        if first & 64 != 0 { device.faults.hasNoFastZeros = true }
        let export = Export(name: "", description: "", device: device)
        let contexts = mode == .simple || first & 8 == 0 ? [] : export.contexts
        session = Session(
            export: export, mode: replyMode,
            contexts: contexts.enumerated().map { .init(id: UInt32($0.offset + 1), context: $0.element) },
            maximumLength: 32_768)
        pieceLength = second == 0 ? .max : Int(second) * 512
        checker = ReplyChecker(mode, contexts: session.contexts.map(\.id))
    }

    /// Bytes as they come.
    mutating func serve(raw bytes: ArraySlice<UInt8>) {
        var rest = bytes
        while rest.count >= mode.requestLength {
            let head = rest.prefix(mode.requestLength)
            guard let decoded = NBDRequest(decoding: head, session.mode) else { return }
            rest = rest.dropFirst(head.count)
            let payload = decoded.payloadLength(session.mode)
            guard payload <= rest.count else { return }
            let request = WireRequest(
                type: decoded.type, flags: decoded.flags.rawValue, cookie: decoded.cookie, offset: decoded.offset,
                length: decoded.length, payload: Array(rest.prefix(Int(payload))))
            rest = rest.dropFirst(Int(payload))
            guard serve(request, decoded) else { return }
        }
    }

    /// Sixteen bytes make a request whose range is likely to be good.
    mutating func serve(recipe bytes: ArraySlice<UInt8>) {
        var reader = ByteReader(bytes)
        var cookie: UInt64 = 0
        while cookie < 32, let type = reader.integer(UInt8.self), let flags = reader.integer(UInt16.self),
            let shape = reader.integer(UInt8.self), let offset = reader.integer(UInt64.self),
            let length = reader.integer(UInt32.self)
        {
            cookie += 1
            let size = UInt64(contents.count)
            let start = (shape & 1 == 0 ? offset % (size + 1) : offset) & ~(shape & 2 == 0 ? 511 : 0)
            let rest = start <= size ? size - start : 0
            var count = shape & 4 == 0 ? UInt64(length) % (rest + 1) : UInt64(length)
            if shape & 8 == 0 { count &= ~511 }
            if shape & 16 != 0, mode == .extended { count <<= 32 }
            var request = WireRequest(
                type: UInt16(type % 10), flags: shape & 32 == 0 ? flags & 0x3F : flags, cookie: cookie, offset: start,
                length: count)
            let hasPayload = request.command == .write || mode == .extended && request.flags & 32 != 0
            if request.isFiltered, mode == .extended {
                let ids = (0..<(shape >> 6)).map { UInt32(truncatingIfNeeded: length >> (8 * UInt32($0)) & 3) }
                request = WireRequest.blockStatus(
                    ids, offset: start, length: count, flags: request.flags, cookie: cookie)
            } else if hasPayload {
                guard count <= 70_000 else { continue }
                request.payload = [UInt8](repeating: type, count: Int(count))
            }
            let encoded = request.encoded(mode)
            guard let decoded = NBDRequest(decoding: encoded.prefix(mode.requestLength), session.mode) else {
                fatalError("a request that is not understood")
            }
            precondition(decoded.payloadLength(session.mode) == UInt64(request.payload.count))
            guard serve(request, decoded) else { return }
        }
    }

    /// Serves a request as a connection does.
    /// - Returns: false when the connection has ended.
    private mutating func serve(_ request: WireRequest, _ decoded: NBDRequest) -> Bool {
        guard let buffer = memory.take(payload: 128 << 10) else { fatalError("no buffer") }
        defer { memory.put(buffer) }
        let handler = RequestHandler(session: session, request: decoded)
        switch RequestRules.judge(decoded, session) {
        case .disconnect: return false
        case .close:
            // Payloads of such a length are longer than any input.
            fatalError("a connection that ends without a reason")
        case .refuse(let error, let sentence): handler.reply.fail(error, sentence, in: buffer)
        case .perform(.read): read(handler, buffer)
        case .perform(.write(let isDurable)): write(handler, request.payload, isDurable: isDurable, buffer)
        case .perform(.filteredBlockStatus(let isOne)):
            filteredStatus(handler, request.payload, isOne: isOne, buffer)
        case .perform(let operation): _ = handler.perform(operation, into: buffer)
        }
        if request.command == .disconnect { fatalError("a reply to a good-bye") }
        checker.expect(request)
        do {
            var bytes = [UInt8](repeating: 0, count: buffer.count)
            buffer.withFilled { filled in bytes.withMutableBytes { $0.copy(from: filled.bytes) } }
            let replies = try checker.takeAll(bytes[...])
            precondition(replies.count == 1 && checker.openCount == 0, "not one reply")
            check(replies[0])
        } catch {
            fatalError(error.description)
        }
        return true
    }

    private func read(_ handler: RequestHandler, _ buffer: PayloadBuffer) {
        let length = Int(handler.request.length)
        var position = 0
        while position < length {
            let end = length - position > pieceLength ? position + pieceLength : length
            if let error = handler.read(position..<end, into: buffer, .mayBlock) {
                guard position == 0 || handler.reply.isFragmented else {
                    // What a connection does then is a matter of its own: it begins anew here.
                    buffer.reset()
                    return handler.reply.fail(error, at: handler.request.offset, in: buffer)
                }
                return handler.reply.fail(error, at: handler.request.offset + UInt64(position), in: buffer)
            }
            position = end
        }
        if length > pieceLength, handler.reply.mode != .simple, !handler.reply.isFragmented {
            handler.reply.succeed(in: buffer)
        }
    }

    private func write(_ handler: RequestHandler, _ payload: [UInt8], isDurable: Bool, _ buffer: PayloadBuffer) {
        var payload = payload
        let error = payload.withMutableBytes { handler.write(&$0, part: 0, isDurable ? .durable : []) }
        if let error { return handler.reply.fail(error, at: handler.request.offset, in: buffer) }
        handler.reply.succeed(in: buffer)
    }

    private func filteredStatus(
        _ handler: RequestHandler, _ payload: [UInt8], isOne: Bool, _ buffer: PayloadBuffer
    ) {
        guard let filter = BlockStatusFilter(decoding: payload[...], session) else {
            return handler.reply.fail(.invalid, "the payload is not right", in: buffer)
        }
        if case .refuse(let error, let sentence) = RequestRules.judge(filter, of: handler.request, session) {
            return handler.reply.fail(error, sentence, in: buffer)
        }
        _ = handler.perform(.filteredBlockStatus(isOne: isOne), filter: filter, into: buffer)
    }

    /// Compares a reply with what the specification asks for.
    private mutating func check(_ reply: WireReply) {
        let error = expectedError(reply.request)
        guard reply.error == error else { fatalError("error \(reply.error) instead of \(error) for \(reply.request)") }
        guard error == 0 else { return }
        let request = reply.request
        guard request.length > 0, request.command != .blockStatus, request.command != .flush else { return }
        let range = Int(request.offset)..<(Int(request.offset) + Int(request.length))
        switch request.command {
        case .read: precondition(reply.data == Array(expected[range]), "wrong data")
        case .write: expected.replaceSubrange(range, with: request.payload)
        case .trim: expected.replaceSubrange(range, with: [UInt8](repeating: 0xD5, count: range.count))
        case .writeZeroes: expected.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
        default: break
        }
    }

    private func expectedError(_ request: WireRequest) -> UInt32 {
        guard let command = request.command, request.payload.count <= 32_768 else { return 22 }
        let isChange = [.write, .trim, .writeZeroes].contains(command)
        if isChange, !device.isWritable { return 1 }
        var good: UInt16 = device.isWritable ? 1 : 0
        switch command {
        case .read: good |= mode == .simple ? 0 : 4
        case .write: good |= mode == .extended ? 32 : 0
        case .writeZeroes: good |= device.isWritable ? 2 | 16 : 0
        case .blockStatus: good |= mode == .simple ? 0 : mode == .extended ? 8 | 32 : 8
        default: break
        }
        if request.flags & ~good != 0 { return 22 }
        if command == .flush { return request.offset == 0 && request.length == 0 ? 0 : 22 }
        let length = request.effectLength
        if command == .blockStatus {
            guard !session.contexts.isEmpty, length > 0 else { return 22 }
            if request.isFiltered {
                let ids = request.contexts
                let count = request.payload.count
                guard count >= 12, count % 4 == 0, Set(ids).count == ids.count,
                    ids.allSatisfy({ 1...UInt32(session.contexts.count) ~= $0 })
                else { return 22 }
            }
        }
        let size = UInt64(contents.count)
        guard request.offset <= size, length <= size - request.offset else {
            return command == .write || command == .writeZeroes ? 28 : 22
        }
        if (request.offset | length) % alignment != 0 { return 22 }
        if command == .read, length > 32_768 { return request.flags & 4 != 0 ? 75 : 22 }
        if length == 0 { return 0 }
        if command == .writeZeroes, request.flags & 16 != 0, device.faults.hasNoFastZeros { return 95 }
        guard let byte = device.faults.unreadableByte else { return 0 }
        if command == .read, byte >= request.offset, byte < request.offset + length { return 5 }
        // A status is cut off before the byte, unless it begins there.
        return command == .blockStatus && request.offset == byte ? 5 : 0
    }

    /// The disk is what the client has made of it.
    func finish() { precondition(device.bytes == expected, "the disk is not what was written") }
}
