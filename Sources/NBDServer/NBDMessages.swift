// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A request of the transmission phase (`NBD_REQUEST_MAGIC`).
struct NBDRequest: Equatable, Sendable {
    /// Length on the wire in bytes.
    static let encodedLength = 28

    var flags: UInt16
    var type: UInt16
    /// Chosen by the client and returned with the reply (the specification's "cookie", once "handle").
    var cookie: UInt64
    /// In bytes.
    var offset: UInt64
    /// In bytes.
    var length: UInt32

    /// Decodes a request; nil when the magic number is wrong and nothing that follows can be trusted.
    init?(decoding bytes: ArraySlice<UInt8>) {
        var reader = ByteReader(bytes)
        guard reader.integer(UInt32.self) == NBDProtocol.requestMagic,
            let flags = reader.integer(UInt16.self), let type = reader.integer(UInt16.self),
            let cookie = reader.integer(UInt64.self), let offset = reader.integer(UInt64.self),
            let length = reader.integer(UInt32.self)
        else { return nil }
        (self.flags, self.type, self.cookie, self.offset, self.length) = (flags, type, cookie, offset, length)
    }
}

/// The head of a simple reply (`NBD_SIMPLE_REPLY_MAGIC`); the data of a successful read follows it.
struct NBDSimpleReply: Equatable, Sendable {
    /// Length on the wire in bytes.
    static let encodedLength = 16

    var error: NBDProtocol.ErrorNumber
    var cookie: UInt64

    /// Writes the reply to the first 16 bytes of `target`.
    func encode(into target: inout MutableRawSpan) {
        let start = UInt64(NBDProtocol.simpleReplyMagic) << 32 | UInt64(error.rawValue)
        target.storeBytes(of: start.bigEndian, toByteOffset: 0, as: UInt64.self)
        target.storeBytes(of: cookie.bigEndian, toByteOffset: 8, as: UInt64.self)
    }
}

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
        guard let nameLength = reader.integer(UInt32.self), nameLength <= NBDProtocol.maximumStringLength,
            let name = reader.take(Int(nameLength)), let count = reader.integer(UInt16.self),
            reader.remaining == 2 * Int(count)
        else { return nil }
        exportName = String(decoding: name, as: UTF8.self)
        infos = (0..<count).compactMap { _ in reader.integer(UInt16.self).flatMap(NBDProtocol.Info.init) }
    }
}
