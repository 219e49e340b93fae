// SPDX-License-Identifier: Apache-2.0

/// Credentials for TLS cannot be used: a sentence that says what, where, and what to do next.
public struct TLSError: Error, CustomStringConvertible, Equatable {
    /// The sentence, without a full stop. It holds no key material.
    public let description: String

    init(_ description: String) { self.description = description }
}
