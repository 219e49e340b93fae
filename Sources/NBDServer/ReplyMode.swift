// SPDX-License-Identifier: Apache-2.0

/// How requests and replies look on the wire; the client chooses it in the negotiation.
enum ReplyMode: Sendable {
    /// Each reply is a simple one.
    case simple
    /// `NBD_OPT_STRUCTURED_REPLY`: replies are chunks.
    case structured
    /// `NBD_OPT_EXTENDED_HEADERS`: chunks and requests with lengths of 64 bits.
    case extended

    /// The length of a request's head in bytes.
    var requestLength: Int { self == .extended ? 32 : 28 }

    /// The length of a reply's or a chunk's head in bytes.
    var headLength: Int {
        switch self {
        case .simple: 16
        case .structured: 20
        case .extended: 32
        }
    }
}
