// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport

@testable import NBDServer

private let disk = MemoryDevice([UInt8](repeating: 7, count: 1000))

/// What a client sends, from its flags on. The first byte says how large the pieces are that it arrives in.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzNBD(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = bytes.first else { return 0 }
    let exports = [
        Export(name: "disk", description: "a disk", device: disk), Export(name: "", description: "", device: disk),
    ]
    var handshake = Handshake(exports: ExportTable(exports))
    var input = ReceivedBytes()
    var rest = bytes.dropFirst()
    while !rest.isEmpty {
        let piece = rest.prefix(first == 0 ? rest.count : Int(first))
        rest.removeFirst(piece.count)
        input.append(piece)
        guard let export = negotiate(&handshake, &input) else { continue }
        serve(export, Array(input.all) + rest)
        return 0
    }
    return 0
}

/// Lets the handshake take all that it can.
private func negotiate(_ handshake: inout Handshake, _ input: inout ReceivedBytes) -> Export? {
    while true {
        var unused = input.all
        var output: [UInt8] = []
        let before = unused.count
        let outcome = handshake.receive(&unused, &output)
        precondition(unused.count <= before && output.count <= 32_768)
        checkReplies(output, outcome)
        _ = input.drop(before - unused.count)
        switch outcome {
        case .transmission(let export): return export
        case .close: return nil
        case .incomplete: if unused.count == before { return nil }
        }
    }
}

/// Every reply has its magic number and its length.
private func checkReplies(_ output: [UInt8], _ outcome: Handshake.Outcome) {
    // The reply to NBD_OPT_EXPORT_NAME has a form of its own.
    if case .transmission = outcome, output.count == 10 || output.count == 134 { return }
    var reader = ByteReader(output)
    while reader.remaining > 0 {
        let magic = reader.integer(UInt64.self)
        precondition(magic == NBDProtocol.optionReplyMagic)
        guard reader.take(8) != nil, let length = reader.integer(UInt32.self), reader.take(Int(length)) != nil else {
            preconditionFailure("a reply that ends too early")
        }
    }
}

/// Judges every request; what may be read lies within the export.
private func serve(_ export: Export, _ bytes: [UInt8]) {
    for start in stride(from: 0, to: bytes.count - NBDRequest.encodedLength + 1, by: NBDRequest.encodedLength) {
        guard let request = NBDRequest(decoding: bytes[start..<(start + NBDRequest.encodedLength)]) else { return }
        switch RequestRules.judge(request, size: export.device.size) {
        case .read:
            precondition(request.offset + UInt64(request.length) <= export.device.size && request.length > 0)
            guard let data = try? export.device.read(count: Int(request.length), at: request.offset) else {
                preconditionFailure("a request that was judged good cannot be served")
            }
            precondition(data.count == Int(request.length))
        case .refuse(let error, let payload):
            precondition(error != .none && payload <= RequestRules.maximumLength)
        case .succeed, .disconnect, .close: break
        }
    }
}
