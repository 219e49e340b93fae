// SPDX-License-Identifier: Apache-2.0

/// What a server wants of its clients as to TLS.
public enum TLSPolicy: Sendable {
    /// TLS is refused.
    case off
    /// Clients that want it have it (the specification's SELECTIVETLS).
    case allow(TLSContext)
    /// Nothing else is answered before it (FORCEDTLS).
    case require(TLSContext)

    /// The credentials, if there are any.
    var context: TLSContext? {
        switch self {
        case .off: nil
        case .allow(let context), .require(let context): context
        }
    }

    /// Whose pre-shared key comes first; nil when there are none, or the name is not text.
    public var firstUser: String? { context?.preSharedKeys?.firstUser }

    /// What the negotiation goes by.
    var demand: Negotiation.TLSDemand {
        switch self {
        case .off: .off
        case .allow: .allowed
        case .require: .required
        }
    }
}
