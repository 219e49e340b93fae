// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The key of a legacy AES image: the passphrase itself, cut or padded with zeros to 16 bytes.
///
/// QEMU took the passphrase as a C string, so a NUL byte in it ends the key.
public enum LegacyAESKey {
    /// In bytes.
    public static let count = 16

    /// The key that QEMU made from `passphrase` when it wrote the image.
    public static func derive(from passphrase: Secret) -> Secret {
        let used = bytesUsed(of: passphrase)
        return passphrase.withBytes { passphrase in
            Secret(count: count) { $0.copy(from: passphrase.extracting(first: used)) }
        }
    }

    /// How many bytes of `passphrase` are in the key: those before the first NUL, 16 at most.
    public static func bytesUsed(of passphrase: Secret) -> Int {
        passphrase.withBytes { passphrase in
            (0..<min(count, passphrase.byteCount)).first { passphrase.byte(at: $0) == 0 }
                ?? min(count, passphrase.byteCount)
        }
    }
}
