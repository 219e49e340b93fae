// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The head of an option (`IHAVEOPT`); its data follows.
struct NBDOptionHeader: Equatable, Sendable {
    /// Length on the wire in bytes.
    static let encodedLength = 16

    var type: UInt32
    /// Of the data, in bytes.
    var length: UInt32

    /// Decodes an option's head; nil when the magic number is wrong.
    init?(decoding bytes: ArraySlice<UInt8>) {
        var reader = ByteReader(bytes)
        guard reader.integer(UInt64.self) == NBDProtocol.optionMagic, let type = reader.integer(UInt32.self),
            let length = reader.integer(UInt32.self)
        else { return nil }
        (self.type, self.length) = (type, length)
    }
}

/// A reply to an option.
struct NBDOptionReply: Equatable, Sendable {
    /// The type of the option that is answered.
    var option: UInt32
    var type: NBDProtocol.OptionReply
    var data: [UInt8] = []

    /// Appends the reply to `output`.
    func encode(into output: inout [UInt8]) {
        output.append(bigEndian: NBDProtocol.optionReplyMagic)
        output.append(bigEndian: option)
        output.append(bigEndian: type.rawValue)
        output.append(bigEndian: UInt32(data.count))
        output += data
    }
}

/// The data of `NBD_OPT_INFO` and `NBD_OPT_GO`.
struct NBDInfoRequest: Equatable, Sendable {
    var exportName: String
    /// Information types that the client asks for; unknown ones are left out.
    var infos: [NBDProtocol.Info]

    /// Decodes the data; nil when its lengths do not fit each other.
    init?(decoding bytes: ArraySlice<UInt8>) {
        var reader = ByteReader(bytes)
        guard let name = reader.text(), let count = reader.integer(UInt16.self), reader.remaining == 2 * Int(count)
        else { return nil }
        exportName = name
        infos = (0..<count).compactMap { _ in reader.integer(UInt16.self).flatMap(NBDProtocol.Info.init) }
    }
}

/// The data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
struct NBDMetaContextRequest: Equatable, Sendable {
    var exportName: String
    var queries: [String]

    /// Decodes the data; nil when its lengths do not fit each other.
    init?(decoding bytes: ArraySlice<UInt8>) {
        var reader = ByteReader(bytes)
        guard let name = reader.text(), let count = reader.integer(UInt32.self) else { return nil }
        exportName = name
        queries = []
        for _ in 0..<count {
            // Each query takes at least its length: a wrong count ends here.
            guard let query = reader.text() else { return nil }
            queries.append(query)
        }
        guard reader.remaining == 0 else { return nil }
    }
}

extension ByteReader {
    /// A string behind its length in 32 bits; nil when it is not there or longer than the protocol allows.
    fileprivate mutating func text() -> String? {
        guard let length = integer(UInt32.self), length <= NBDProtocol.maximumStringLength,
            let bytes = take(Int(length))
        else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }
}
