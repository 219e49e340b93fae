// SPDX-License-Identifier: Apache-2.0

import TestSupport

/// What simple replies to some requests look like, byte for byte, in any order.
struct ReplyTranscript {
    private let replies: [[[UInt8]]]
    private static let headLength = 16

    /// - Parameters:
    ///   - contents: of the disk. A read behind its end is refused.
    ///   - mayStop: requests may be refused because the server stops.
    init(_ requests: [WireRequest], of contents: [UInt8], mayStop: Bool) {
        replies = requests.map { request in
            let (start, count) = (Int(request.offset), Int(request.length))
            guard start + count <= contents.count else { return [Self.head(request, error: 22)] }
            let data = Self.head(request, error: 0) + contents[start..<(start + count)]
            return mayStop ? [data, Self.head(request, error: 108)] : [data]
        }
    }

    private static func head(_ request: WireRequest, error: UInt32) -> [UInt8] {
        var bytes: [UInt8] = [0x67, 0x44, 0x66, 0x98]
        for shift in stride(from: 24, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: error >> shift)) }
        for shift in stride(from: 56, through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: request.cookie >> shift))
        }
        return bytes
    }

    /// What the client has got.
    struct Found {
        /// How many requests have no whole reply.
        var missingCount: Int
        /// The last reply has begun, and is not whole.
        var isWithinReply = false
    }

    /// - Returns: nil when the bytes are not those of replies, of which the last one may be the beginning.
    func found(in output: [UInt8]) -> Found? {
        var open = replies
        var position = 0
        while position < output.count {
            let rest = output.count - position
            let match = open.indices.lazy.compactMap { index in
                open[index].first { reply in
                    output.hasSameBytes(position..<(position + min(rest, reply.count)), as: reply, at: 0)
                }.map { (index, $0.count) }
            }.first
            guard let (index, count) = match else { return nil }
            guard count <= rest else { return Found(missingCount: open.count, isWithinReply: true) }
            open.remove(at: index)
            position += count
        }
        return Found(missingCount: open.count)
    }
}
