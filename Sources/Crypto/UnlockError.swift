// SPDX-License-Identifier: Apache-2.0

/// Why an image was not unlocked: a code for the exit status and one sentence, which holds nothing secret.
public struct UnlockError: Error, Equatable, Sendable, CustomStringConvertible {
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
    public let description: String

    private init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }

    /// No secret fits; the sentence says what was tried.
    public static func wrongSecret(_ description: String) -> UnlockError { UnlockError(.wrongSecret, description) }

    /// No secret fits where it was tried; the sentence says what was not tried, and why.
    static func notAllTried(_ description: String) -> UnlockError { UnlockError(.notAllTried, description) }

    /// Not here or not at this cost; the sentence says what would help.
    public static func refused(_ description: String) -> UnlockError { UnlockError(.refused, description) }

    /// What was asked for is not there; the sentence says what is.
    public static func usage(_ description: String) -> UnlockError { UnlockError(.usage, description) }
}
