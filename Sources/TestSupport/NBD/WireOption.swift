// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The negotiation as a client speaks it.
public enum WireOption {
    /// A reply to an option.
    public struct Reply: Equatable, Sendable {
        /// The option that it answers.
        public var option: UInt32
        /// `NBD_REP_…`
        public var type: UInt32
        /// What follows its head.
        public var data: [UInt8]

        /// Has the answer come to its end?
        public var isFinal: Bool { type == 1 || isError }
        /// Has the option been refused?
        public var isError: Bool { type & 0x8000_0000 != 0 }
        /// The data of an error, which is for people.
        public var sentence: String { String(decoding: data, as: UTF8.self) }
    }

    /// The length of a reply's head in bytes.
    public static let headLength = 20

    /// An option on the wire.
    ///
    /// - Parameter length: what its head says; nil for the truth.
    public static func encoded(_ type: UInt32, _ data: [UInt8] = [], length: UInt32? = nil) -> [UInt8] {
        var bytes = Array("IHAVEOPT".utf8)
        bytes.append(bigEndian: type)
        bytes.append(bigEndian: length ?? UInt32(data.count))
        return bytes + data
    }

    /// A string behind its length in 32 bits.
    public static func string(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: UInt32(text.utf8.count))
        return bytes + text.utf8
    }

    /// The data of `NBD_OPT_INFO` and `NBD_OPT_GO`.
    public static func info(_ name: String, _ infos: [UInt16] = []) -> [UInt8] {
        var bytes = string(name)
        bytes.append(bigEndian: UInt16(infos.count))
        for info in infos { bytes.append(bigEndian: info) }
        return bytes
    }

    /// The data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
    public static func contexts(_ name: String, _ queries: [String] = []) -> [UInt8] {
        var bytes = string(name)
        bytes.append(bigEndian: UInt32(queries.count))
        for query in queries { bytes += string(query) }
        return bytes
    }

    /// Decodes the head of a reply: what it answers, its type, and how much follows.
    public static func head(_ bytes: ArraySlice<UInt8>) throws(WireFault) -> (reply: Reply, length: Int) {
        var reader = ByteReader(bytes)
        guard reader.integer(UInt64.self) == 0x0003_E889_0455_65A9, let option = reader.integer(UInt32.self),
            let type = reader.integer(UInt32.self), let length = reader.integer(UInt32.self)
        else { throw WireFault("not a reply to an option: \(bytes.prefix(20))") }
        guard length <= 3 * 4096 else { throw WireFault("a reply of \(length) bytes to option \(option)") }
        return (Reply(option: option, type: type, data: []), Int(length))
    }

    /// Checks what a reply's type asks of its data.
    public static func check(_ reply: Reply) throws(WireFault) {
        var reader = ByteReader(reply.data)
        switch reply.type {
        case 1: guard reply.data.isEmpty else { throw WireFault("an ACK with data") }
        case 2:
            guard reply.option == 3, let length = reader.integer(UInt32.self), length <= 4096,
                reader.take(Int(length)) != nil, reader.remaining <= 4096
            else { throw WireFault("a wrong entry of a list") }
        case 3:
            guard reply.option == 6 || reply.option == 7, let info = reader.integer(UInt16.self) else {
                throw WireFault("a wrong information")
            }
            let isRight =
                switch info {
                case 0: reply.data.count == 12
                case 1, 2: reply.data.count <= 4098
                case 3: reply.data.count == 14
                default: false
                }
            guard isRight else { throw WireFault("\(reply.data.count) bytes of information \(info)") }
        case 4:
            guard reply.option == 9 || reply.option == 10, let id = reader.integer(UInt32.self),
                String(decoding: reply.data.dropFirst(4), as: UTF8.self).contains(":"), reply.data.count <= 4100,
                (id == 0) == (reply.option == 9)
            else { throw WireFault("a wrong context") }
        case 0x8000_0001...0x8000_000A:
            guard reply.sentence.contains(" "), String(validating: reply.data, as: UTF8.self) != nil else {
                throw WireFault("an error without a sentence")
            }
        default: throw WireFault("a reply of type \(reply.type)")
        }
    }

    /// All replies in `bytes`, which end with a whole one; each is right in itself.
    public static func replies(_ bytes: ArraySlice<UInt8>) throws(WireFault) -> [Reply] {
        var reader = ByteReader(bytes)
        var replies: [Reply] = []
        while reader.remaining > 0 {
            guard let head = reader.take(headLength) else { throw WireFault("half a head") }
            var (reply, length) = try Self.head(head)
            guard let data = reader.take(length) else { throw WireFault("half a reply") }
            reply.data = Array(data)
            try check(reply)
            replies.append(reply)
        }
        return replies
    }
}
