// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats

/// Other byte strings that somebody may have meant by a passphrase that does not fit.
///
/// Old versions of QEMU took the bytes that the terminal sent, in whatever encoding it had; some systems write accents as
/// characters of their own; and the digits of a keyboard are where others have other characters.
struct PassphraseVariant {
    /// What is different, for messages.
    let description: String
    let secret: Secret

    /// All variants that differ from `passphrase`, the likeliest first.
    static func all(of passphrase: Secret) -> [PassphraseVariant] {
        guard passphrase.count > 0 else { return [] }
        let trimmed = passphrase.droppingTrailingNewline()
        let variants: [(String, Secret?)] = [
            ("without the newline at its end", trimmed.count < passphrase.count ? trimmed : nil),
            ("without the carriage return at its end", withoutReturn(passphrase)),
            ("as the hexadecimal digits of its bytes, as OpenStack writes a key", hexadecimal(passphrase)),
            (
                "with each of its bytes as hexadecimal digits without a leading 0, as old versions of OpenStack write a key",
                unpadded(passphrase) ?? hexadecimal(passphrase).flatMap(unpadded)
            ),
            ("in Latin-1 instead of UTF-8", passphrase.rewriting(PassphraseSpelling.latin1)),
            ("in UTF-8 instead of Latin-1", passphrase.rewriting(PassphraseSpelling.utf8)),
            ("with a line feed at its end", appending([0x0A], to: passphrase)),
            ("with carriage return and line feed at its end", appending([0x0D, 0x0A], to: passphrase)),
            ("with each accent as a character of its own (NFD)", passphrase.rewriting(PassphraseSpelling.decomposed)),
            ("with each accent as a part of its letter (NFC)", passphrase.rewriting(PassphraseSpelling.composed)),
            (
                "with what a French keyboard types in place of digits without the shift key",
                passphrase.rewriting(PassphraseSpelling.frenchFromDigits)
            ),
            (
                "with digits in place of what a French keyboard types without the shift key",
                passphrase.rewriting(PassphraseSpelling.digitsFromFrench)
            ),
        ]
        return variants.compactMap { description, secret in
            secret.map { PassphraseVariant(description: description, secret: $0) }
        }
    }

    /// The variants of passphrases of an AES image that do not fit: the first that does, and what was tried before.
    ///
    /// - Parameter disk: what the image alone says if a cipher is right.
    static func search(
        of secrets: [NamedSecret], _ disk: (LegacyAESCipher) -> any BlockDevice
    ) -> (fitting: (secret: NamedSecret, variant: PassphraseVariant)?, tried: [String]) {
        var tried: [String] = []
        for secret in secrets {
            for variant in all(of: secret.secret) {
                let cipher = LegacyAESCipher(key: LegacyAESKey.derive(from: variant.secret))
                guard ContentCheck.examine(AlignedDevice(disk(cipher))).verdict != .plausible else {
                    return ((secret, variant), tried)
                }
                tried.append(variant.description)
            }
        }
        return (nil, tried)
    }

    private static func appending(_ tail: [UInt8], to passphrase: Secret) -> Secret {
        passphrase.withBytes { bytes in
            Secret(count: bytes.byteCount + tail.count) { target in
                target.copy(from: bytes)
                for (index, byte) in tail.enumerated() {
                    target.storeBytes(of: byte, toByteOffset: bytes.byteCount + index, as: UInt8.self)
                }
            }
        }
    }

    private static func withoutReturn(_ passphrase: Secret) -> Secret? {
        let count = passphrase.count
        return passphrase.withBytes { $0.byte(at: count - 1) } == 0x0D ? passphrase.prefix(count - 1) : nil
    }

    // MARK: OpenStack

    /// Lengths of keys in bytes.
    private static let keySizes = [16, 24, 32, 48, 64]

    /// The digits of a key that is no text.
    private static func hexadecimal(_ key: Secret) -> Secret? {
        guard keySizes.contains(key.count),
            key.withBytes({ bytes in
                (0..<bytes.byteCount).contains { !(0x20..<0x7F).contains(bytes.byte(at: $0)) }
            })
        else { return nil }
        return key.rewriting { bytes, index in
            let byte = bytes.byte(at: index)
            return .replace(1, by: SpeltBytes(digit(byte >> 4), digit(byte & 15)))
        }
    }

    private static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
    }

    /// os-brick before 1.9 joined what Python's hex() gives for each byte.
    private static func unpadded(_ digits: Secret) -> Secret? {
        guard digits.count % 2 == 0, keySizes.contains(digits.count / 2) else { return nil }
        return digits.rewriting { bytes, index in
            let (high, low) = (bytes.byte(at: index), bytes.byte(at: index + 1))
            guard isDigit(high), isDigit(low) else { return .giveUp }
            return high == UInt8(ascii: "0") ? .replace(2, by: SpeltBytes(low)) : .keep(2)
        }
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }
}

extension LUKSUnlock.Options {
    /// The same, with variants of passphrases that do not fit.
    var tryingVariants: Self {
        var options = self
        options.variants = { secret in
            PassphraseVariant.all(of: secret).map { .init(description: $0.description, secret: $0.secret) }
        }
        return options
    }
}
