// SPDX-License-Identifier: Apache-2.0

public import BlockIO
public import Crypto

/// Why an image cannot be opened: what kind of a reason it is, and one sentence that names the image.
public struct OpeningError: Error, SentenceConvertible {
    /// What kind of a reason it is.
    public enum Code: Sendable {
        /// What is asked for makes no sense, or is not there.
        case usage
        /// The image is damaged, or holds what is refused.
        case badImage
        /// A file is not there, may not be read, or is in use.
        case cannotOpen
        /// A secret is wrong or missing.
        case wrongSecret
    }

    /// What kind of a reason it is.
    public let code: Code
    /// One sentence, for people.
    public let sentence: Sentence
    /// Another secret may open what this one does not.
    public let isOfSecret: Bool

    /// - Parameter sentence: names the image.
    public init(_ code: Code, _ sentence: Sentence) {
        self.init(code, sentence, isOfSecret: code == .wrongSecret)
    }

    private init(_ code: Code, _ sentence: Sentence, isOfSecret: Bool) {
        self.code = code
        self.sentence = sentence
        self.isOfSecret = isOfSecret
    }

    /// An image cannot be opened.
    ///
    /// - Parameter image: as the caller named it.
    public init(_ error: FormatError, image: String) {
        let code: Code =
            switch error.code {
            case .unreadable, .inUse: .cannotOpen
            case .damaged, .unsupported, .notRecognised: .badImage
            }
        self.init(code, "\(image): \(error)")
    }

    /// A container cannot be unlocked.
    ///
    /// - Parameter image: as the caller named it.
    public init(_ error: UnlockError, image: String) {
        let code: Code =
            switch error.code {
            case .wrongSecret: .wrongSecret
            case .refused, .notAllTried: .badImage
            case .usage: .usage
            }
        self.init(code, "\(image): \(error)", isOfSecret: error.code == .wrongSecret || error.code == .notAllTried)
    }
}

extension OpeningError {
    /// What opening can throw, under the name of the image.
    init(opening error: any Error, image: String) {
        switch error {
        case let error as OpeningError: self = error
        case let error as FormatError: self.init(error, image: image)
        case let error as UnlockError: self.init(error, image: image)
        default: self.init(.badImage, "\(image): \(error)")
        }
    }
}
