// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Why an image was not unlocked: a code for the exit status and one sentence, which holds nothing secret.
public struct UnlockError: Error, Equatable, Sendable, SentenceConvertible {
    /// What kind of failure this is.
    public enum Code: Sendable {
        /// No secret fits, though each was tried wherever it may fit, or none was given.
        case wrongSecret
        /// No secret fits where it was tried, but keyslots of the data were left out: one of them may be the one.
        case notAllTried
        /// The caller has asked for something that is not there.
        case usage
        /// The image asks for what is not available here or costs more than is allowed.
        case refused
    }

    /// Decides the exit status.
    public let code: Code
    /// One sentence: what, found, allowed, what to do.
    public let sentence: Sentence

    private init(_ code: Code, _ sentence: Sentence) {
        self.code = code
        self.sentence = sentence
    }

    /// No secret fits; the sentence says what was tried.
    public static func wrongSecret(_ sentence: Sentence) -> UnlockError { UnlockError(.wrongSecret, sentence) }

    /// No secret fits where it was tried; the sentence says what was not tried, and why.
    static func notAllTried(_ sentence: Sentence) -> UnlockError { UnlockError(.notAllTried, sentence) }

    /// Not here or not at this cost; the sentence says what would help.
    public static func refused(_ sentence: Sentence) -> UnlockError { UnlockError(.refused, sentence) }

    /// What was asked for is not there; the sentence says what is.
    public static func usage(_ sentence: Sentence) -> UnlockError { UnlockError(.usage, sentence) }
}
