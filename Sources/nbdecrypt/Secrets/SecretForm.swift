// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack

/// How the bytes of a source stand for a secret.
enum SecretForm: String {
    /// The bytes, without one newline at their end.
    case text
    /// The bytes.
    case bytes
    /// Hexadecimal digits, two for each byte.
    case hexadecimal = "hex"
    case base64

    /// The secret that `read` stands for.
    ///
    /// - Parameter name: of the source, for messages.
    /// - Throws: ``OpeningError`` when it is not of this form; it tells a place, and nothing that is there.
    func decode(_ read: Secret, _ name: String) throws(OpeningError) -> Secret {
        do throws(Secret.DecodingFault) {
            return switch self {
            case .text: read.droppingTrailingNewline()
            case .bytes: read
            case .hexadecimal: try read.decodingHexadecimal()
            case .base64: try read.decodingBase64()
            }
        } catch {
            let called = self == .base64 ? "base64" : "hexadecimal"
            let reason: Sentence =
                switch error {
                case .character(let index) where self == .base64:
                    "byte \(index + 1) is no character of base64, or stands where it may not"
                case .character(let index): "byte \(index + 1) is no hexadecimal digit"
                case .count(let count) where self == .base64:
                    "it has \(count) characters, and base64 has a multiple of 4, with = at its end"
                case .count(let count): "it has \(count) digits, and each byte has 2"
                case .bitsLeft: "its end is cut off or changed"
                }
            throw OpeningError(
                .wrongSecret,
                "\(name) is not \(called): \(reason); white space alone is allowed beside it: is it the right source, and the right form?"
            )
        }
    }
}
