// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import TestSupport

@testable import NBDServer
@testable import ServerTestSupport

private let contents: [UInt8] = {
    var bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) | 1 }
    for range in [4096..<12_288, 80_000..<100_000] {
        bytes.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
    }
    return bytes
}()
/// Nobody changes what is on the disk.
private let exports = [Export(name: "", description: "", device: MemoryDevice(contents))]

private func makeLoop() -> EventLoop {
    do { return try EventLoop(index: 0, processors: SpareProcessors(total: 0), isDriven: true) } catch {
        fatalError("no event loop: \(error)")
    }
}

private let loop = makeLoop()
/// From none for a worker beside a reply in pieces, to enough for all.
private let pools = [0, 70_000, 140_000, 210_000, 400_000, 2 << 20].map { ReplyBufferPool(maximumBytes: $0) }

/// Replies in all modes with little memory, in every order in which a loop, workers and a client can take their steps: each
/// byte that leaves is compared with what it must be.
///
/// The first byte chooses mode and memory, the second how many requests of four bytes follow; the rest decides who takes the
/// next step.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzReplies(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard bytes.count > 2 else { return 0 }
    let mode = WireMode.allCases[Int(bytes[0]) % 3]
    let pool = pools[Int(bytes[0]) / 3 % pools.count]
    var reader = ByteReader(bytes[2...])
    var requests: [WireRequest] = []
    while requests.count < Int(bytes[1] % 12), let recipe = reader.integer(UInt32.self) {
        requests.append(request(recipe, cookie: UInt64(requests.count), mode))
    }
    var decisions = (reader.take(reader.remaining) ?? [])[...]
    let output: [UInt8] = loop.queue.sync {
        do {
            let driven = try DrivenConnection(
                loop, exports, limits: ServerLimits(), buffers: pool, processors: 1 + Int(bytes[1] / 12 % 4),
                input: conversation(mode, requests)
            ) { choices in decisions.popFirst().map { Int($0) % choices } ?? 0 }
            driven.run()
            precondition(driven.isEnded, "the conversation has come to a stop")
            driven.end()
            return driven.output
        } catch { fatalError("no socket: \(error)") }
    }
    do { try check(output, requests, mode) } catch { fatalError(error.description) }
    return 0
}

/// A read, mostly; a flush, or a request that is refused, whose replies have no data.
private func request(_ recipe: UInt32, cookie: UInt64, _ mode: WireMode) -> WireRequest {
    let length = [1, 17, 512, 4096, 65_536, 65_537, 131_072, 150_000][Int(recipe & 7)]
    let offset = UInt64(recipe >> 12) % UInt64(contents.count - length)
    let flags = recipe & 8 == 0 || mode == .simple ? 0 : WireRequest.Flag.dontFragment
    switch recipe >> 4 & 7 {
    case 6: return WireRequest(.flush, cookie: cookie)
    case 7: return WireRequest(.read, flags: flags, cookie: cookie, offset: UInt64(contents.count), length: 1)
    default: return WireRequest(.read, flags: flags, cookie: cookie, offset: offset, length: UInt64(length))
    }
}

private func conversation(_ mode: WireMode, _ requests: [WireRequest]) -> [UInt8] {
    var bytes: [UInt8] = [0, 0, 0, 3]
    switch mode {
    case .simple: break
    case .structured: bytes += WireOption.encoded(8)
    case .extended: bytes += WireOption.encoded(11)
    }
    bytes += WireOption.encoded(7, WireOption.info(""))
    for request in requests { bytes += request.encoded(mode) }
    return bytes + WireRequest(.disconnect, cookie: .max).encoded(mode)
}

private func check(_ output: [UInt8], _ requests: [WireRequest], _ mode: WireMode) throws(WireFault) {
    // The greeting; an ACK of the mode; the block sizes, the export, the ACK.
    let negotiation = 18 + (mode == .simple ? 0 : 20) + (20 + 14) + (20 + 12) + 20
    var checker = ReplyChecker(mode)
    for request in requests { checker.expect(request) }
    for reply in try checker.takeAll(output.dropFirst(negotiation)) {
        let request = reply.request
        let end = Int(request.offset + request.length)
        precondition((reply.error == 0) == (end <= contents.count), "error \(reply.error)")
        guard reply.error == 0, request.command == .read else { continue }
        precondition(reply.data == Array(contents[Int(request.offset)..<end]), "wrong data")
    }
    precondition(checker.openCount == 0, "requests without a reply")
}
