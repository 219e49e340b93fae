// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto

/// What the bytes of a secret look like, for the case that it does not fit: a newline that an editor left, or a key that was
/// written down as text. Tells forms and lengths, never contents.
struct SecretShape: Equatable {
    /// How the file ends.
    enum LineEnd: String {
        case lineFeed = "a newline"
        case carriageReturnLineFeed = "CR LF, the newline of Windows"
    }

    /// How text may stand for bytes, and for how many.
    enum Encoding: Equatable {
        case hexadecimal(byteCount: Int)
        case base64(byteCount: Int)
    }

    let lineEnd: LineEnd?
    /// Nil when it is not likely that the text stands for other bytes.
    let encoding: Encoding?

    /// A key of fewer bytes is not told from a passphrase.
    private static let smallestKey = 16
    /// Longer text is not a key.
    private static let longestText = 4096

    /// Looks at all bytes of a file, a newline at its end included.
    init(_ secret: Secret) {
        let trimmed = secret.droppingTrailingNewline()
        lineEnd =
            switch secret.count - trimmed.count {
            case 0: nil
            case 1: .lineFeed
            default: .carriageReturnLineFeed
            }
        encoding = trimmed.count > Self.longestText ? nil : trimmed.withBytes(Self.encoding)
    }

    private static func encoding(_ text: RawSpan) -> Encoding? {
        var census = TextCensus()
        for index in 0..<text.byteCount where !census.take(text.byte(at: index)) { return nil }
        if census.hexDigits == census.count, census.count % 2 == 0, census.count / 2 >= smallestKey {
            return .hexadecimal(byteCount: census.count / 2)
        }
        let bytes = census.count / 4 * 3 - census.padding
        // Words have no such length by chance, nor all three kinds of characters.
        guard census.count % 4 == 0, census.blanks == 0, bytes >= smallestKey, bytes % 8 == 0,
            census.padding > 0 || census.hasAllKinds
        else { return nil }
        return .base64(byteCount: bytes)
    }

    /// What to type when the text stands for other bytes.
    ///
    /// - Parameter option: takes the source in a form.
    func encodingHint(_ option: (SecretForm) -> String) -> String? {
        guard let encoding else { return nil }
        let (count, name, form) =
            switch encoding {
            case .hexadecimal(let count): (count, "hexadecimal", SecretForm.hexadecimal)
            case .base64(let count): (count, "base64", SecretForm.base64)
            }
        return "it is text that looks like \(count) bytes in \(name): to use the bytes, give \(option(form))"
    }

    /// What to type when the newline does, or does not, belong to the secret.
    ///
    /// - Parameters:
    ///   - wasDropped: it was taken for the end of the text.
    ///   - option: takes it the other way.
    func newlineHint(wasDropped: Bool, _ option: String) -> String? {
        guard let lineEnd else { return nil }
        return wasDropped
            ? "it ends in \(lineEnd.rawValue), which was left out: if that belongs to it, give \(option)"
            : "it ends in \(lineEnd.rawValue), which was used: if that does not belong to it, give \(option)"
    }
}

/// Counts the characters that hexadecimal digits and base64 are made of.
private struct TextCensus {
    /// All but white space.
    var count = 0
    var hexDigits = 0
    var padding = 0
    /// Between groups of digits; words have them, too.
    var blanks = 0
    private var hasUpper = false
    private var hasLower = false
    private var hasDigit = false

    var hasAllKinds: Bool { hasUpper && hasLower && hasDigit }

    /// False when the byte belongs to neither.
    mutating func take(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "\n"), UInt8(ascii: "\r"): return true
        case UInt8(ascii: " "), UInt8(ascii: "\t"):
            blanks += 1
            return true
        case UInt8(ascii: "="):
            padding += 1
            guard padding <= 2 else { return false }
        case UInt8(ascii: "0")...UInt8(ascii: "9"): hasDigit = true
        case UInt8(ascii: "a")...UInt8(ascii: "z"): hasLower = true
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): hasUpper = true
        case UInt8(ascii: "+"), UInt8(ascii: "/"): break
        default: return false
        }
        guard padding == 0 || byte == UInt8(ascii: "=") else { return false }
        count += 1
        if byte.hexadecimalValue != nil { hexDigits += 1 }
        return true
    }
}
