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

    /// Decodes the first ``ReplyMode/requestLength`` bytes; nil when there are fewer, or when the magic
    /// number is wrong and nothing that follows can be trusted.
    init?(decoding bytes: RawSpan, _ mode: ReplyMode) {
        let magic = mode == .extended ? NBDProtocol.extendedRequestMagic : NBDProtocol.requestMagic
        guard bytes.byteCount >= mode.requestLength, bytes.bigEndian(at: 0, as: UInt32.self) == magic else {
            return nil
        }
        flags = NBDProtocol.CommandFlags(rawValue: bytes.bigEndian(at: 4, as: UInt16.self))
        type = bytes.bigEndian(at: 6, as: UInt16.self)
        cookie = bytes.bigEndian(at: 8, as: UInt64.self)
        offset = bytes.bigEndian(at: 16, as: UInt64.self)
        length =
            mode == .extended
            ? bytes.bigEndian(at: 24, as: UInt64.self) : UInt64(bytes.bigEndian(at: 24, as: UInt32.self))
    }

    /// Decodes the request at the start of a slice, in the same way.
    init?(decoding bytes: ArraySlice<UInt8>, _ mode: ReplyMode) {
        guard let request = bytes.withBytes({ NBDRequest(decoding: $0, mode) }) else { return nil }
        self = request
    }
}
