// SPDX-License-Identifier: Apache-2.0

/// How NBD requests and replies look on the wire, as a client knows it.
///
/// The numbers in these files are written down a second time on purpose: they check the server's.
public enum WireMode: Sendable, CaseIterable {
    /// Simple replies.
    case simple
    /// Structured replies.
    case structured
    /// Extended headers.
    case extended

    /// The length of a reply's or a chunk's head in bytes.
    public var headLength: Int {
        switch self {
        case .simple: 16
        case .structured: 20
        case .extended: 32
        }
    }

    /// The length of a request's head in bytes.
    public var requestLength: Int { self == .extended ? 32 : 28 }
}
