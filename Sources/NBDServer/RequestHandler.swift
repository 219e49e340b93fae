// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Turns requests that have passed ``RequestRules`` into replies. Any thread may call it.
enum RequestHandler {
    /// Puts a reply without data into `buffer`, which has room for it.
    static func reply(_ error: NBDProtocol.ErrorNumber, to request: NBDRequest, in buffer: ReplyBuffer) {
        buffer.append(NBDSimpleReply.encodedLength) {
            NBDSimpleReply(error: error, cookie: request.cookie).encode(into: &$0)
        }
    }

    /// Puts a reply that tells of a failed read into `buffer`.
    static func reply(_ error: BlockError, to request: NBDRequest, in buffer: ReplyBuffer) {
        let number: NBDProtocol.ErrorNumber =
            switch error.code {
            case .outOfRange: .invalid
            case .inputOutput, .damaged, .wouldBlock, .readOnly, .noSpace, .notSupported: .inputOutput
            }
        reply(number, to: request, in: buffer)
    }

    /// Puts the head of a successful reply and all data into `buffer`, which has room for them.
    /// - Returns: why it cannot be done; nothing has been added then.
    static func read(
        _ request: NBDRequest, from device: any BlockDevice, into buffer: ReplyBuffer, _ mode: ReadMode
    ) -> BlockError? {
        readPart(0..<Int(request.length), of: request, from: device, into: buffer, mode)
    }

    /// Puts a part of the data into `buffer`, and the head of the reply before its first byte.
    /// - Parameter part: in bytes from the start of the data.
    /// - Returns: why it cannot be done; nothing has been added then.
    static func readPart(
        _ part: Range<Int>, of request: NBDRequest, from device: any BlockDevice, into buffer: ReplyBuffer,
        _ mode: ReadMode
    ) -> BlockError? {
        let head = part.lowerBound == 0 ? NBDSimpleReply.encodedLength : 0
        do throws(BlockError) {
            try buffer.append(head + part.count, dataCount: part.count) { (bytes) throws(BlockError) in
                if head > 0 { NBDSimpleReply(error: .none, cookie: request.cookie).encode(into: &bytes) }
                try bytes.withSlice(head..<bytes.byteCount) { (data) throws(BlockError) in
                    try device.read(into: &data, at: request.offset + UInt64(part.lowerBound), mode)
                }
            }
            return nil
        } catch { return error }
    }
}
