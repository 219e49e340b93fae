// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats

/// Finds the key of an AES-encrypted qcow or qcow2 image and judges the passphrase, which the image cannot do.
struct LegacyAESOpener {
    /// How messages name the image.
    let name: String
    /// In the chain; 0 is the top.
    let layer: Int
    let ring: SecretRing
    let checksPassphrase: Bool
    let log: OpeningLog
    /// The disk of this image alone, with what it says if a cipher is right.
    let disk: (LegacyAESCipher) -> any BlockDevice

    /// What a secret gives.
    private struct Candidate {
        let cipher: LegacyAESCipher
        let check: ContentCheck
        let secret: NamedSecret
    }

    /// The cipher with the right key.
    /// - Throws: ``OpeningError`` of a secret when the passphrase does not fit.
    func open() throws -> LegacyAESCipher {
        if !ring.isPinned(.passphraseOfLayer(layer)), let raw = try ring.rawKey() {
            guard raw.secret.count == LegacyAESKey.count else {
                throw OpeningError(
                    .wrongSecret,
                    "\(raw.name) holds \(raw.secret.count) bytes; the key of an AES image has \(LegacyAESKey.count)"
                        + (raw.hints.encoding.map { hint -> Sentence in "; \(hint)" } ?? ""))
            }
            return try check([raw], isRawKey: true)
        }
        if !ring.hasPassphrases(for: .passphraseOfLayer(layer)), let volumeKey = try ring.volumeKeys().first {
            throw OpeningError(
                .wrongSecret,
                "\(name): \(volumeKey.name) is for LUKS; the 16 key bytes of an AES image go with \(remedy: .aesKeyFile)"
            )
        }
        return try ring.open(name, own: .passphraseOfLayer(layer)) { secrets in
            for secret in secrets where secret.isMissing {
                throw OpeningError(.wrongSecret, "\(name): \(secret.name) is empty; write the passphrase into it")
            }
            secrets.forEach(warnOfNUL)
            return try check(secrets)
        }
    }

    private func warnOfNUL(_ secret: NamedSecret) {
        let used = LegacyAESKey.bytesUsed(of: secret.secret)
        guard used < min(secret.secret.count, LegacyAESKey.count) else { return }
        let hint: Sentence =
            secret.secret.count == LegacyAESKey.count
            ? "; if these 16 bytes are the key, use \(remedy: .aesKeyFile)" : ""
        log.warning("the passphrase has a NUL byte, which ends the key after \(used) bytes\(hint)")
    }

    private func examine(_ cipher: LegacyAESCipher) -> ContentCheck {
        ContentCheck.examine(AlignedDevice(disk(cipher)))
    }

    /// The first secret that fits, or else the first that cannot be judged.
    private func check(
        _ secrets: [NamedSecret], isRawKey: Bool = false
    ) throws -> LegacyAESCipher {
        func cipher(_ secret: Secret) -> LegacyAESCipher {
            LegacyAESCipher(key: isRawKey ? secret : LegacyAESKey.derive(from: secret))
        }
        guard checksPassphrase else { return cipher(secrets[0].secret) }
        let candidates = secrets.lazy.map { secret in
            let cipher = cipher(secret.secret)
            return Candidate(cipher: cipher, check: examine(cipher), secret: secret)
        }
        var undecided: Candidate?
        var wrong: Candidate?
        for candidate in candidates {
            switch candidate.check.verdict {
            case .plausible:
                let name = secrets.count > 1 ? candidate.secret.name : "the passphrase"
                log.notice("\(name) fits: \(candidate.check.summary)")
                return candidate.cipher
            case .cannotTell: undecided = undecided ?? candidate
            case .implausible: wrong = wrong ?? candidate
            }
        }
        if let undecided {
            log.warning("the passphrase cannot be checked, and is taken as it is: \(undecided.check.summary)")
            return undecided.cipher
        }
        guard let wrong else { throw OpeningError(.wrongSecret, "\(name): no passphrase was given") }
        throw OpeningError(.wrongSecret, advice(wrong.check, secrets, isRawKey: isRawKey))
    }

    /// What to type next, from the variants of the passphrase that would fit.
    private func advice(
        _ check: ContentCheck, _ secrets: [NamedSecret], isRawKey: Bool
    ) -> Sentence {
        let names = secrets.map(\.name).joined(separator: ", ")
        let verdict: Sentence = "\(name): \(names) does not fit: \(check.summary)"
        let encodings = secrets.compactMap { secret in secret.hints.encoding.map { "; \(secret.name): \($0)" } }
            .joined()
        let override: Sentence = "if the disk really holds nothing but random data, add \(remedy: .skipPassphraseCheck)"
        if isRawKey { return "\(verdict)\(encodings); check the key file; \(override)" }
        let search = PassphraseVariant.search(of: secrets, disk)
        if let (secret, variant) = search.fitting {
            return "\(verdict); but \(secrets.count > 1 ? secret.name : "it") fits \(variant.description): "
                + "\(secret.advice(for: variant.secret))"
        }
        return
            "\(verdict)\(encodings); \(LUKSUnlock.adviceToSpell)\(LUKSUnlock.Variant.list(search.tried)), and "
            + "give other encodings with \(remedy: .keyFile); \(override)"
    }
}
