// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import TestSupport

@testable import NBDServer
@testable import ServerTestSupport

private let contents: [UInt8] = {
    var bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) | 1 }
    for range in [4096..<12_288, 60_000..<80_000] {
        bytes.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
    }
    return bytes
}()
/// In the middle of reads in pieces.
private let unreadableByte: UInt64 = 50_000

private func makeLoop() -> EventLoop {
    do { return try EventLoop(index: 0, processors: SpareProcessors(total: 0), isDriven: true) } catch {
        fatalError("no event loop: \(error)")
    }
}

private let loop = makeLoop()
/// A piece of a read is 4 KiB at least, 64 KiB at most.
private let sizes = PayloadSizes(smallest: 4096)
/// From none for a worker beside a reply in pieces, over one for each of some workers, to enough for all.
private let pools = [0, 2, 3, 4, 6, 100].map {
    PayloadBufferPool(maximumBytes: $0 * sizes.smallestCapacity, sizes: sizes)
}
private let limits: ServerLimits = {
    var limits = ServerLimits()
    // No time passes here.
    (limits.negotiation, limits.goodbye, limits.farewell, limits.stallLook) = (.never, .never, .never, .never)
    return limits
}()

/// Replies in all modes with little memory, in every order in which a loop, workers and a client can take their steps: each
/// byte that leaves is compared with what it must be.
///
/// Four bytes choose the mode and the memory; how many requests of two bytes follow; faults and the number of processors; and
/// how steps are chosen once what follows the requests, which chooses before, has been used up. Only with more requests than
/// the loop takes in a row are some left behind a read in pieces.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzReplies(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard bytes.count > 4 else { return 0 }
    let mode = WireMode.allCases[Int(bytes[0]) % 3]
    let faults = Faults(rawValue: bytes[2])
    var reader = ByteReader(bytes[4...])
    var requests: [WireRequest] = []
    while requests.count < Int(bytes[1] % 48), let recipe = reader.integer(UInt16.self) {
        requests.append(request(recipe, cookie: UInt64(requests.count), mode))
    }
    let conversation = WireConversation(mode, contexts: ["base:allocation", "qemu:allocation-depth"], requests)
    var choices = Choices(bytes: reader.take(reader.remaining) ?? [], seed: bytes[3])
    let device = MemoryDevice(contents, isWritable: true)
    let pool = pools[Int(bytes[0]) / 3 % pools.count]
    if faults.contains(.nothingIsCached) { device.faults.nothingIsCached = true }
    if faults.contains(.unreadable) { device.faults.unreadableByte = unreadableByte }
    if faults.contains(.noChanges) { device.faults.changeFailure = .inputOutput("it does not change") }
    let output: [UInt8] = loop.queue.sync {
        do {
            let driven = try DrivenConnection(
                loop, [Export(name: "", description: "", device: device)], limits: limits,
                buffers: pool, processors: 1 + Int(bytes[2] >> 6),
                input: conversation.bytes, hangsUp: faults.contains(.hangsUp), stops: faults.contains(.stops)
            ) { choices.next($0) }
            driven.run()
            precondition(driven.isEnded, "the conversation has come to a stop")
            driven.end()
            precondition(pool.report.used == 0, "memory has not been given back")
            return driven.output
        } catch { fatalError("no socket: \(error)") }
    }
    do { try Model(conversation: conversation, faults: faults).check(output) } catch { fatalError(error.description) }
    return 0
}

private struct Faults: OptionSet {
    let rawValue: UInt8
    static let nothingIsCached = Faults(rawValue: 1)
    static let unreadable = Faults(rawValue: 2)
    static let noChanges = Faults(rawValue: 4)
    static let hangsUp = Faults(rawValue: 8)
    static let stops = Faults(rawValue: 16)
}

/// Who takes the next step.
private struct Choices {
    private var bytes: ArraySlice<UInt8>
    private var state: UInt64

    /// - Parameter seed: of what comes after the bytes; 0: always the first choice, which is progress.
    init(bytes: ArraySlice<UInt8>, seed: UInt8) {
        self.bytes = bytes
        state = UInt64(seed) << 32
    }

    mutating func next(_ count: Int) -> Int {
        if let byte = bytes.popFirst() { return Int(byte) % count }
        guard state != 0 else { return 0 }
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state % UInt64(count))
    }
}

/// A read, mostly. What is written is there already, so that each read has one right answer.
private func request(_ recipe: UInt16, cookie: UInt64, _ mode: WireMode) -> WireRequest {
    // Half of them have room in the smallest buffer; the last ones are served in pieces where there is little more.
    let length = [1, 4000, 4096, 4096, 4097, 12_000, 50_000, 70_000][Int(recipe & 7)]
    let offset = UInt64(recipe >> 8) * 391 % UInt64(contents.count - length)
    let flags = recipe & 8 == 0 || mode == .simple ? 0 : WireRequest.Flag.dontFragment
    switch recipe >> 4 & 15 {
    case 10 where mode == .extended:
        return WireRequest.blockStatus([2], offset: offset, length: UInt64(length), cookie: cookie)
    case 10, 11: return WireRequest(.blockStatus, cookie: cookie, offset: offset, length: UInt64(length))
    case 12, 13:
        return WireRequest.write(Array(contents[Int(offset)...].prefix(length)), at: offset, cookie: cookie, mode)
    case 14: return WireRequest(.flush, cookie: cookie)
    case 15: return WireRequest(.read, flags: flags, cookie: cookie, offset: UInt64(contents.count), length: 1)
    default: return WireRequest(.read, flags: flags, cookie: cookie, offset: offset, length: UInt64(length))
    }
}

/// What the server has to say.
private struct Model {
    let conversation: WireConversation
    let faults: Faults

    private var mode: WireMode { conversation.mode }

    func check(_ output: [UInt8]) throws(WireFault) {
        var rest = try conversation.replies(in: output)
        var checker = conversation.checker
        var isBroken = faults.contains(.hangsUp)
        while !rest.isEmpty {
            let head = rest.prefix(mode.headLength)
            guard head.count == mode.headLength else { break }
            let length = try checker.payloadLength(head)
            let payload = rest.dropFirst(head.count).prefix(length)
            guard payload.count == length else {
                isBroken = try check(partial: head, payload) || isBroken
                break
            }
            if let reply = try checker.take(head, payload) { try check(reply) }
            rest = rest.dropFirst(head.count + length)
        }
        guard isBroken || rest.isEmpty else { throw WireFault("half a reply") }
        guard isBroken || checker.openCount == 0 else { throw WireFault("requests without a reply") }
    }

    private func check(_ reply: WireReply) throws(WireFault) {
        let request = reply.request
        let allowed: Set<UInt32>
        switch request.command {
        case .read where request.offset + request.length > UInt64(contents.count): allowed = [22]
        case .read: allowed = isUnreadable(request) ? [5] : [0]
        case .write, .flush: allowed = faults.contains(.noChanges) ? [5] : [0]
        case .blockStatus where mode == .simple: allowed = [22]
        case .blockStatus: allowed = isUnreadable(request) ? [0, 5] : [0]
        default: allowed = []
        }
        let isStopped = faults.contains(.stops) && reply.error == 108 && !allowed.contains(22)
        guard isStopped || allowed.contains(reply.error) else {
            throw WireFault("the error \(reply.error) for \(request)")
        }
        guard request.command == .read else { return }
        // Of a reply that has failed in its middle, what has come before is right.
        let pieces = reply.pieces.map(\.range).map { piece in
            guard let end = reply.errorOffset.map({ Int($0 - request.offset) }) else { return piece }
            return piece.lowerBound..<max(piece.lowerBound, min(piece.upperBound, end))
        }
        guard pieces.allSatisfy({ reply.hasData(of: contents, in: $0) }) else { throw WireFault("wrong data") }
    }

    private func isUnreadable(_ request: WireRequest) -> Bool {
        faults.contains(.unreadable) && request.offset <= unreadableByte
            && unreadableByte < request.offset + request.effectLength
    }

    /// Checks the beginning of a message, after which the connection has ended.
    /// - Returns: true when it could not be completed: a simple reply cannot say that its data cannot be read.
    private func check(partial head: ArraySlice<UInt8>, _ payload: ArraySlice<UInt8>) throws(WireFault) -> Bool {
        var reader = ByteReader(head.dropFirst(6))
        guard let type = reader.integer(UInt16.self), let cookie = reader.integer(UInt64.self) else { return false }
        let request = conversation.requests[Int(cookie)]
        var body = ByteReader(payload)
        var offset = request.offset
        if mode != .simple {
            // Only a chunk of data has what can be compared; with zeros in the place of what cannot be read.
            guard type == 1, !isUnreadable(request), let start = body.integer(UInt64.self) else { return false }
            offset = start
        }
        let data = Array(body.take(body.remaining) ?? [])
        guard data.hasSameBytes(0..<data.count, as: contents, at: Int(offset)) else {
            throw WireFault("wrong data in a reply that has not been completed")
        }
        return mode == .simple && isUnreadable(request)
    }
}
