// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Credentials for TLS cannot be used: a sentence that says what, where, and what to do next.
public struct TLSError: Error, SentenceConvertible, Equatable {
    /// The sentence, without a full stop. It holds no key material.
    public let sentence: Sentence

    init(_ sentence: Sentence) { self.sentence = sentence }
}
