// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport

@testable import NBDServer

private final class Stripes: DirtyBitmap {
    let name: String
    init(_ name: String) { self.name = name }
    func run(
        at offset: UInt64, limit: UInt64, _ mode: ReadMode
    ) throws(BlockError) -> (isDirty: Bool, length: UInt64) {
        ((offset / 512).isMultiple(of: 2), min(limit, 512 - offset % 512))
    }
}

private let exports: ExportTable = {
    let disk = MemoryDevice([UInt8](repeating: 7, count: 4096))
    let aligned = MemoryDevice([UInt8](repeating: 7, count: 4096), alignment: 512, isWritable: true)
    return ExportTable([
        Export(name: "a", description: "a disk", device: disk, bitmaps: [Stripes("x"), Stripes("y")]),
        Export(name: "b", description: "", device: aligned, bitmaps: (0..<66).map { Stripes("\($0)") }),
    ])
}()

/// All that came of a negotiation.
private struct Result: Equatable {
    /// What the server said to each message that was an option, and what it said at the end.
    var output: [UInt8] = []
    /// Where TLS began.
    var breaks: [Int] = []
    /// How it ended.
    var end = ""
}

/// A negotiation, from the client flags on. The first byte: what is wanted of TLS, and whether options are well-formed; the
/// second: how large the pieces are that the bytes arrive in.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOptions(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard bytes.count > 2 else { return 0 }
    let tls: Negotiation.TLSDemand = [.off, .allowed, .required][Int(bytes[0] & 3) % 3]
    let message = bytes[0] & 4 == 0 ? Array(bytes[2...]) : options(bytes[2...])
    let whole = negotiate(message, tls, pieceLength: message.count)
    // Few enough of them that a long message takes no long time.
    let pieces = negotiate(message, tls, pieceLength: max(1, Int(bytes[1]), message.count / 64))
    precondition(whole == pieces, "what a client is told depends on how its bytes arrive")
    return 0
}

/// Client flags, and options of the right form: a byte for the type, two for the length of the data, the data.
private func options(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
    var reader = ByteReader(bytes)
    var message: [UInt8] = [0, 0, 0, (reader.integer(UInt8.self) ?? 0) & 3 | 1]
    while let type = reader.integer(UInt8.self) {
        let named = type & 0x80 != 0
        var data = named ? WireOption.string(["a", "b", "", "c"][Int(type >> 5 & 3)]) : []
        let length = Int(reader.integer(UInt16.self) ?? 0)
        let given = reader.take(min(length, reader.remaining)) ?? []
        // What is missing of long data is made up: long inputs would be slow.
        data += given + [UInt8](repeating: 0, count: length > 0x3FFF ? length - given.count : 0)
        message += WireOption.encoded(UInt32(type & 0x1F), data)
    }
    return message
}

/// Lets the negotiation take all that it can.
private func negotiate(_ message: [UInt8], _ tls: Negotiation.TLSDemand, pieceLength: Int) -> Result {
    var negotiation = Negotiation(exports: exports, tls: tls, maximumLength: 64 << 20)
    var result = Result()
    var input: ArraySlice<UInt8> = []
    var rest = message[...]
    var isSecure = false
    repeat {
        let piece = rest.prefix(pieceLength)
        rest.removeFirst(piece.count)
        input += piece
        while true {
            var unused = input
            var output: [UInt8] = []
            let before = unused.count
            let outcome = negotiation.receive(&unused, &output)
            precondition(unused.count <= before && output.count <= Negotiation.longestOutput)
            let used = before - unused.count
            input.removeFirst(used)
            check(output, outcome, isHidden: tls == .required && !isSecure)
            result.output += output
            switch outcome {
            case .transmission(let session):
                precondition(tls != .required || isSecure, "an export without TLS")
                check(session)
                result.end = "\(session.mode) \(session.export.name) \(session.contexts.map(\.context.name))"
                return result
            case .close(let reason):
                result.end = reason?.description ?? "abort"
                return result
            case .startTLS:
                precondition(tls != .off && !isSecure)
                isSecure = true
                negotiation.startOver()
                result.breaks.append(result.output.count)
            case .incomplete:
                guard used > 0 || !output.isEmpty || negotiation.isListing else { break }
                continue
            }
            if case .incomplete = outcome { break }
        }
    } while !rest.isEmpty
    return result
}

/// Every reply is right in itself; before TLS that is required nothing is told.
private func check(_ output: [UInt8], _ outcome: Negotiation.Outcome, isHidden: Bool) {
    // The reply to NBD_OPT_EXPORT_NAME has a form of its own.
    if case .transmission = outcome, output.count == 10 || output.count == 134 { return }
    do {
        for reply in try WireOption.replies(output[...]) {
            precondition(!isHidden || reply.isFinal, "information without TLS")
            precondition(!isHidden || reply.isError || reply.option == 2 || reply.option == 5, "success without TLS")
        }
    } catch {
        fatalError(error.description)
    }
}

private func check(_ session: Session) {
    let ids = session.contexts.map(\.id)
    precondition(ids.count <= Negotiation.maximumContextCount && Set(ids).count == ids.count && !ids.contains(0))
    precondition(ids.isEmpty || session.mode != .simple)
    let offered = Set(session.export.contexts.map(\.name))
    precondition(session.contexts.allSatisfy { offered.contains($0.context.name) })
}
