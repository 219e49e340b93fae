// SPDX-License-Identifier: Apache-2.0

/// Why an image was not unlocked: a code for the exit status and one sentence, which holds nothing secret.
public struct UnlockError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What kind of failure this is.
    public enum Code: Sendable {
        /// No secret fits, or none was given.
        case wrongSecret
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

    /// Not here or not at this cost; the sentence says what would help.
    public static func refused(_ description: String) -> UnlockError { UnlockError(.refused, description) }

    /// What was asked for is not there; the sentence says what is.
    public static func usage(_ description: String) -> UnlockError { UnlockError(.usage, description) }
}
