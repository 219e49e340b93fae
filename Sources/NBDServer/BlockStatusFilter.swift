// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The payload of `NBD_CMD_BLOCK_STATUS` with `NBD_CMD_FLAG_PAYLOAD_LEN`: how many bytes, and which contexts.
///
/// Source: NBD specification, extended headers, "NBD_CMD_BLOCK_STATUS".
struct BlockStatusFilter: Equatable {
    /// How many bytes the status is asked for.
    let length: UInt64
    /// The chosen contexts that the client asks for, as it names them.
    let ids: [UInt32]

    /// Can a payload of `length` bytes be a filter? Each chosen context is asked for once at most.
    static func isPossible(length: UInt64, _ session: Session) -> Bool {
        length >= 12 && length % 4 == 0 && (length - 8) / 4 <= UInt64(session.contexts.count)
    }

    /// Decodes the payload, whose length ``isPossible(length:_:)``; nil when it asks for a context that was not chosen,
    /// or for one twice.
    init?(decoding payload: ArraySlice<UInt8>, _ session: Session) {
        var reader = ByteReader(payload)
        guard let length = reader.integer(UInt64.self) else { return nil }
        var ids: [UInt32] = []
        while let id = reader.integer(UInt32.self) {
            guard session.contexts.contains(where: { $0.id == id }), !ids.contains(id) else { return nil }
            ids.append(id)
        }
        self.length = length
        self.ids = ids
    }
}
