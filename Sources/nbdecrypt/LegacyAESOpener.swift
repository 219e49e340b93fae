// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats
import Logging

/// Opens an AES-encrypted qcow2 image and judges the passphrase, which the image cannot do.
struct LegacyAESOpener {
    let file: FileDevice
    let header: Qcow2Header
    let options: DeviceStack.Options
    let ring: SecretRing
    let log: Logger

    /// What a secret gives.
    private struct Candidate {
        let image: Qcow2Image
        let check: ContentCheck
        let secret: LUKSUnlock.NamedSecret
    }

    /// The decrypted disk.
    /// - Throws: ``Failure`` with status 77 when the passphrase does not fit.
    func open() throws -> Qcow2Image {
        if let raw = try ring.rawKey() {
            guard raw.secret.count == LegacyAESKey.count else {
                throw Failure(
                    .wrongPassphrase,
                    "\(raw.name) holds \(raw.secret.count) bytes; the key of an AES image has \(LegacyAESKey.count)")
            }
            return try check([raw], isRawKey: true)
        }
        if let volumeKey = try ring.volumeKey() {
            throw Failure(
                .wrongPassphrase,
                "\(options.path): \(volumeKey.name) is for LUKS; the 16 key bytes of an AES image go with --raw-key-file"
            )
        }
        return try ring.open(options.path) { secrets in
            secrets.forEach(warnOfNUL)
            return try check(secrets)
        }
    }

    private func warnOfNUL(_ secret: LUKSUnlock.NamedSecret) {
        let used = LegacyAESKey.bytesUsed(of: secret.secret)
        guard used < min(secret.secret.count, LegacyAESKey.count) else { return }
        let hint =
            secret.secret.count == LegacyAESKey.count ? "; if these 16 bytes are the key, use --raw-key-file" : ""
        log.warning("the passphrase has a NUL byte, which ends the key after \(used) bytes\(hint)")
    }

    private func image(key: Secret) -> Qcow2Image {
        Qcow2Image(file: file, header: header, cipher: LegacyAESCipher(key: key))
    }

    private func examine(_ image: Qcow2Image) -> ContentCheck { ContentCheck.examine(AlignedDevice(image)) }

    /// The first secret that fits, or else the first that cannot be judged.
    private func check(
        _ secrets: [LUKSUnlock.NamedSecret], isRawKey: Bool = false
    ) throws -> Qcow2Image {
        func key(_ secret: Secret) -> Secret { isRawKey ? secret : LegacyAESKey.derive(from: secret) }
        guard options.checksPassphrase else { return image(key: key(secrets[0].secret)) }
        let candidates = secrets.lazy.map { secret in
            let image = image(key: key(secret.secret))
            return Candidate(image: image, check: examine(image), secret: secret)
        }
        var undecided: Candidate?
        var wrong: Candidate?
        for candidate in candidates {
            switch candidate.check.verdict {
            case .plausible:
                let source = secrets.count > 1 ? " from \(candidate.secret.name)" : ""
                log.notice("the passphrase\(source) fits: \(candidate.check.summary)")
                return candidate.image
            case .cannotTell: undecided = undecided ?? candidate
            case .implausible: wrong = wrong ?? candidate
            }
        }
        if let undecided {
            log.warning("the passphrase cannot be checked, served as it is: \(undecided.check.summary)")
            return undecided.image
        }
        guard let wrong else { throw Failure(.wrongPassphrase, "\(options.path): no passphrase was given") }
        throw Failure(.wrongPassphrase, advice(wrong.check, secrets, isRawKey: isRawKey))
    }

    /// What to type next, from the variants of the passphrase that would fit.
    private func advice(
        _ check: ContentCheck, _ secrets: [LUKSUnlock.NamedSecret], isRawKey: Bool
    ) -> String {
        let names = secrets.map(\.name).joined(separator: ", ")
        let verdict = "\(options.path): the passphrase from \(names) does not fit: \(check.summary)"
        let override = "if the disk really holds nothing but random data, add --no-passphrase-check"
        if isRawKey { return "\(verdict); check the key file; \(override)" }
        for variant in secrets.flatMap({ PassphraseVariant.all(of: $0.secret) })
        where examine(image(key: LegacyAESKey.derive(from: variant.secret))).verdict == .plausible {
            return "\(verdict); but it fits \(variant.description): "
                + "write exactly these bytes to a file and give --key-file FILE"
        }
        return "\(verdict); check the spelling and the keyboard layout (a line feed at the end, Latin-1 and UTF-8 were "
            + "tried), and give other encodings with --key-file; \(override)"
    }
}
