// SPDX-License-Identifier: Apache-2.0

/// Why an image cannot be opened: what is wrong, where in the file, what was found, what is allowed, what to do.
public struct FormatError: Error, Equatable, Sendable, SentenceConvertible {
    /// What kind of trouble this is.
    public enum Code: Sendable {
        /// The image is of this format but contradicts itself or its file.
        case damaged
        /// The image is sound but uses something that this program does not do.
        case unsupported
        /// The contents are of no format that this program knows.
        case notRecognised
        /// The file cannot be opened or read at all.
        case unreadable
        /// Another program writes to the file.
        case inUse
    }

    /// Decides the exit status of the program.
    public let code: Code
    /// One sentence, with the offending numbers.
    public let sentence: Sentence

    private init(_ code: Code, _ sentence: Sentence) {
        self.code = code
        self.sentence = sentence
    }

    /// A value in the image is out of its range.
    ///
    /// - Parameters:
    ///   - field: structure and field, e.g. "qcow2 header: cluster_bits".
    ///   - offset: where in the file, in bytes.
    ///   - advice: what to do about it; nil gives the usual advice for a damaged file.
    public static func damaged(
        _ field: String, at offset: UInt64, found: some CustomStringConvertible, allowed: String,
        advice: Sentence? = nil
    ) -> FormatError {
        let advice: Sentence =
            advice ?? "the image is damaged or not complete: compare it with the original or a backup"
        return FormatError(.damaged, "\(field) at byte \(offset): found \(found), allowed \(allowed); \(advice)")
    }

    /// The image uses what this program does not do; the sentence names it and says what to do.
    public static func unsupported(_ sentence: Sentence) -> FormatError { FormatError(.unsupported, sentence) }

    /// No format fits; the sentence says how to name one.
    public static func notRecognised(_ sentence: Sentence) -> FormatError { FormatError(.notRecognised, sentence) }

    /// The system refused; the sentence has its reason.
    public static func unreadable(_ sentence: Sentence) -> FormatError { FormatError(.unreadable, sentence) }

    /// Another program has the file; the sentence says what to do.
    public static func inUse(_ sentence: Sentence) -> FormatError { FormatError(.inUse, sentence) }

    /// The same about a part of the image, which the sentence then starts with.
    public func naming(_ part: String) -> FormatError { FormatError(code, "\(part): \(sentence)") }

    /// The same, with something else to set in place of `remedy`.
    public func replacing(_ remedy: Remedy, with other: Remedy) -> FormatError {
        FormatError(code, sentence.replacing(remedy, with: other))
    }
}
