// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// A request as a client sends it, be it right or wrong.
///
/// Source: NBD specification, "Request message", and the extension of extended headers.
public struct WireRequest: Equatable, Sendable {
    /// Request types that the specification has.
    public enum Command: UInt16, Sendable, CaseIterable {
        case read, write, disconnect, flush, trim, cache, writeZeroes, blockStatus
    }

    /// Bits of the command flags.
    public enum Flag {
        /// `NBD_CMD_FLAG_FUA`
        public static let fua: UInt16 = 1 << 0
        /// `NBD_CMD_FLAG_NO_HOLE`
        public static let noHole: UInt16 = 1 << 1
        /// `NBD_CMD_FLAG_DF`
        public static let dontFragment: UInt16 = 1 << 2
        /// `NBD_CMD_FLAG_REQ_ONE`
        public static let requestOne: UInt16 = 1 << 3
        /// `NBD_CMD_FLAG_FAST_ZERO`
        public static let fastZero: UInt16 = 1 << 4
        /// `NBD_CMD_FLAG_PAYLOAD_LEN`
        public static let payloadLength: UInt16 = 1 << 5
    }

    /// The request type, known or not.
    public var type: UInt16
    /// The command flags.
    public var flags: UInt16
    /// Comes back with the reply.
    public var cookie: UInt64
    /// In bytes.
    public var offset: UInt64
    /// In bytes; on the wire it has 32 bits without extended headers.
    public var length: UInt64
    /// What follows the head.
    public var payload: [UInt8]

    /// A request of any type.
    public init(
        type: UInt16, flags: UInt16 = 0, cookie: UInt64 = 0, offset: UInt64 = 0, length: UInt64 = 0,
        payload: [UInt8] = []
    ) {
        (self.type, self.flags, self.cookie) = (type, flags, cookie)
        (self.offset, self.length, self.payload) = (offset, length, payload)
    }

    /// A request without payload.
    public init(
        _ command: Command, flags: UInt16 = 0, cookie: UInt64 = 0, offset: UInt64 = 0, length: UInt64 = 0
    ) {
        self.init(type: command.rawValue, flags: flags, cookie: cookie, offset: offset, length: length)
    }

    /// A write in the form that `mode` asks for.
    public static func write(
        _ bytes: [UInt8], at offset: UInt64, flags: UInt16 = 0, cookie: UInt64 = 0, _ mode: WireMode
    ) -> WireRequest {
        WireRequest(
            type: Command.write.rawValue, flags: flags | (mode == .extended ? Flag.payloadLength : 0), cookie: cookie,
            offset: offset, length: UInt64(bytes.count), payload: bytes)
    }

    /// A block status in some of the chosen contexts only.
    public static func blockStatus(
        _ ids: [UInt32], offset: UInt64, length: UInt64, flags: UInt16 = 0, cookie: UInt64 = 0
    ) -> WireRequest {
        var payload: [UInt8] = []
        payload.append(bigEndian: length)
        for id in ids { payload.append(bigEndian: id) }
        return WireRequest(
            type: Command.blockStatus.rawValue, flags: flags | Flag.payloadLength, cookie: cookie, offset: offset,
            length: UInt64(payload.count), payload: payload)
    }

    /// The same with another cookie.
    public func with(cookie: UInt64) -> WireRequest {
        var request = self
        request.cookie = cookie
        return request
    }

    /// Nil for a type that the specification does not have.
    public var command: Command? { Command(rawValue: type) }

    /// Is the payload of a block status a list of contexts?
    public var isFiltered: Bool { command == .blockStatus && flags & Flag.payloadLength != 0 }

    /// How many bytes of the export the request is about.
    public var effectLength: UInt64 {
        var reader = ByteReader(payload)
        return isFiltered ? reader.integer(UInt64.self) ?? 0 : length
    }

    /// The contexts that a filtered block status asks for.
    public var contexts: [UInt32] {
        var reader = ByteReader(payload.dropFirst(8))
        var ids: [UInt32] = []
        while let id = reader.integer(UInt32.self) { ids.append(id) }
        return ids
    }

    /// The bytes on the wire.
    public func encoded(_ mode: WireMode) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(bigEndian: mode == .extended ? 0x21E4_1C71 : 0x2560_9513 as UInt32)
        bytes.append(bigEndian: flags)
        bytes.append(bigEndian: type)
        bytes.append(bigEndian: cookie)
        bytes.append(bigEndian: offset)
        if mode == .extended {
            bytes.append(bigEndian: length)
        } else {
            bytes.append(bigEndian: UInt32(truncatingIfNeeded: length))
        }
        return bytes + payload
    }
}
