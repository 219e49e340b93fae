// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport
import Testing

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

extension [UInt8] {
    /// The big-endian integer at an index; nil where there is none.
    func integer<T: FixedWidthInteger & UnsignedInteger>(at index: Int, _ type: T.Type) -> T? {
        var reader = ByteReader(dropFirst(index))
        return reader.integer(type)
    }
}
