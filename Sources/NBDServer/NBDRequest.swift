// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A request of the transmission phase (`NBD_REQUEST_MAGIC`, `NBD_EXTENDED_REQUEST_MAGIC`).
///
/// Source: NBD specification, "Request message", "Compact request", "Extended request".
struct NBDRequest: Equatable, Sendable {
    var flags: NBDProtocol.CommandFlags
    var type: UInt16
    /// Chosen by the client and returned with the reply (the specification's "cookie", once "handle").
    var cookie: UInt64
    /// In bytes.
    var offset: UInt64
    /// In bytes: of what the request is about, or with `NBD_CMD_FLAG_PAYLOAD_LEN` of its payload.
    var length: UInt64

    /// The command; nil for one that this server does not know.
    var command: NBDProtocol.Command? { NBDProtocol.Command(rawValue: type) }

    /// How many bytes of payload follow the request.
    func payloadLength(_ mode: ReplyMode) -> UInt64 {
        command == .write || mode == .extended && flags.contains(.payloadLength) ? length : 0
    }

    /// Decodes a request of ``ReplyMode/requestLength`` bytes; nil when the magic number is wrong and nothing that follows
    /// can be trusted.
    init?(decoding bytes: ArraySlice<UInt8>, _ mode: ReplyMode) {
        var reader = ByteReader(bytes)
        let magic = mode == .extended ? NBDProtocol.extendedRequestMagic : NBDProtocol.requestMagic
        guard reader.integer(UInt32.self) == magic,
            let flags = reader.integer(UInt16.self), let type = reader.integer(UInt16.self),
            let cookie = reader.integer(UInt64.self), let offset = reader.integer(UInt64.self),
            let length = mode == .extended ? reader.integer(UInt64.self) : reader.integer(UInt32.self).map(UInt64.init)
        else { return nil }
        self.flags = NBDProtocol.CommandFlags(rawValue: flags)
        (self.type, self.cookie, self.offset, self.length) = (type, cookie, offset, length)
    }
}
