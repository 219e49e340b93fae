// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto

/// Other byte strings that somebody may have meant by a passphrase that does not fit.
///
/// Old versions of QEMU took the bytes that the terminal sent, in whatever encoding it had.
struct PassphraseVariant {
    /// What is different, for messages.
    let description: String
    let secret: Secret

    /// All variants that differ from `passphrase`.
    static func all(of passphrase: Secret) -> [PassphraseVariant] {
        var variants = [
            PassphraseVariant(
                description: "with a line feed at its end", secret: appending([0x0A], to: passphrase)),
            PassphraseVariant(
                description: "with carriage return and line feed at its end",
                secret: appending([0x0D, 0x0A], to: passphrase)),
        ]
        let trimmed = passphrase.droppingTrailingNewline()
        if trimmed.count < passphrase.count {
            variants.append(PassphraseVariant(description: "without the newline at its end", secret: trimmed))
        }
        if let latin1 = latin1(from: passphrase) {
            variants.append(PassphraseVariant(description: "in Latin-1 instead of UTF-8", secret: latin1))
        }
        if let utf8 = utf8(from: passphrase) {
            variants.append(PassphraseVariant(description: "in UTF-8 instead of Latin-1", secret: utf8))
        }
        return variants
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

    /// The passphrase in Latin-1, if it is UTF-8 of characters between U+0080 and U+00FF and of ASCII.
    private static func latin1(from passphrase: Secret) -> Secret? {
        passphrase.withBytes { bytes in
            var count = 0
            var isChanged = false
            // Two-byte UTF-8 sequences of these characters start with 0xC2 or 0xC3.
            var index = 0
            while index < bytes.byteCount {
                let byte = bytes.byte(at: index)
                if byte >= 0x80 {
                    guard byte == 0xC2 || byte == 0xC3, index + 1 < bytes.byteCount,
                        bytes.byte(at: index + 1) & 0xC0 == 0x80
                    else { return nil }
                    isChanged = true
                    index += 1
                }
                index += 1
                count += 1
            }
            guard isChanged else { return nil }
            return Secret(count: count) { target in
                var index = 0
                for position in 0..<count {
                    var byte = bytes.byte(at: index)
                    if byte >= 0x80 {
                        index += 1
                        byte = (byte & 0x03) << 6 | bytes.byte(at: index) & 0x3F
                    }
                    index += 1
                    target.storeBytes(of: byte, toByteOffset: position, as: UInt8.self)
                }
            }
        }
    }

    /// The passphrase in UTF-8, if it has bytes beyond ASCII and is taken for Latin-1.
    private static func utf8(from passphrase: Secret) -> Secret? {
        passphrase.withBytes { bytes in
            let wide = (0..<bytes.byteCount).count { bytes.byte(at: $0) >= 0x80 }
            guard wide > 0 else { return nil }
            return Secret(count: bytes.byteCount + wide) { target in
                var position = 0
                func put(_ byte: UInt8) {
                    target.storeBytes(of: byte, toByteOffset: position, as: UInt8.self)
                    position += 1
                }
                for index in 0..<bytes.byteCount {
                    let byte = bytes.byte(at: index)
                    if byte < 0x80 {
                        put(byte)
                    } else {
                        put(0xC0 | byte >> 6)
                        put(0x80 | byte & 0x3F)
                    }
                }
            }
        }
    }
}
