// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The head of a simple reply, of a chunk of a structured reply, or of one with an extended header.
///
/// Source: NBD specification, "Simple reply message", "Structured reply chunk message", "Extended reply chunk message".
struct NBDReplyHead: Equatable, Sendable {
    var mode: ReplyMode
    /// Of the request.
    var cookie: UInt64
    /// Of the request; only extended headers carry it.
    var offset: UInt64 = 0
    /// Only simple replies carry it.
    var error = NBDProtocol.ErrorNumber.none
    /// Only chunks carry it, as the two that follow.
    var type = NBDProtocol.ChunkType.none
    /// The last chunk of the reply.
    var isDone = true
    /// Of the payload in bytes, less than 2^32.
    var payloadLength: UInt64 = 0

    /// Writes the head to the ``ReplyMode/headLength`` bytes of `target` at `position`.
    func encode(into target: inout MutableRawSpan, at position: Int = 0) {
        let flagsAndType = UInt32(isDone ? NBDProtocol.replyFlagDone : 0) << 16 | UInt32(type.rawValue)
        switch mode {
        case .simple:
            target.store(NBDProtocol.simpleReplyMagic, at: position)
            target.store(error.rawValue, at: position + 4)
            target.store(cookie, at: position + 8)
        case .structured:
            target.store(NBDProtocol.structuredReplyMagic, at: position)
            target.store(flagsAndType, at: position + 4)
            target.store(cookie, at: position + 8)
            target.store(UInt32(truncatingIfNeeded: payloadLength), at: position + 16)
        case .extended:
            target.store(NBDProtocol.extendedReplyMagic, at: position)
            target.store(flagsAndType, at: position + 4)
            target.store(cookie, at: position + 8)
            target.store(offset, at: position + 16)
            target.store(payloadLength, at: position + 24)
        }
    }
}

extension MutableRawSpan {
    /// Stores an integer in big-endian order.
    @inline(__always)
    mutating func store<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at position: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: position, as: T.self)
    }
}
