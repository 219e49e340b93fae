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
    let log: Logger

    /// The decrypted disk.
    /// - Throws: ``Failure`` with status 77 when the passphrase does not fit.
    func open(_ termination: Termination) throws -> Qcow2Image {
        let secret = try options.secret.read(image: options.path, termination)
        if !secret.isLocked {
            log.warning("the passphrase cannot be locked into memory and may reach the swap; raise RLIMIT_MEMLOCK")
        }
        let image: Qcow2Image
        if case .rawKeyFile = options.secret {
            guard secret.count == LegacyAESKey.count else {
                throw Failure(
                    .wrongPassphrase,
                    "\(options.secret.name) holds \(secret.count) bytes; the key of an AES image has \(LegacyAESKey.count)"
                )
            }
            image = self.image(key: secret)
        } else {
            let used = LegacyAESKey.bytesUsed(of: secret)
            if used < min(secret.count, LegacyAESKey.count) {
                let hint =
                    secret.count == LegacyAESKey.count ? "; if these 16 bytes are the key, use --raw-key-file" : ""
                log.warning("the passphrase has a NUL byte, which ends the key after \(used) bytes\(hint)")
            }
            image = self.image(key: LegacyAESKey.derive(from: secret))
        }
        if options.checksPassphrase { try check(image, secret) }
        return image
    }

    private func image(key: Secret) -> Qcow2Image {
        Qcow2Image(file: file, header: header, cipher: LegacyAESCipher(key: key))
    }

    private func examine(_ image: Qcow2Image) -> ContentCheck { ContentCheck.examine(AlignedDevice(image)) }

    private func check(_ image: Qcow2Image, _ secret: Secret) throws {
        let check = examine(image)
        switch check.verdict {
        case .plausible:
            log.notice("the passphrase fits: \(check.summary)")
        case .cannotTell:
            log.warning("the passphrase cannot be checked, served as it is: \(check.summary)")
        case .implausible:
            throw Failure(.wrongPassphrase, advice(check, secret))
        }
    }

    /// What to type next, from the variants of the passphrase that would fit.
    private func advice(_ check: ContentCheck, _ secret: Secret) -> String {
        let verdict = "\(options.path): the passphrase from \(options.secret.name) does not fit: \(check.summary)"
        let override = "if the disk really holds nothing but random data, add --no-passphrase-check"
        if case .rawKeyFile = options.secret { return "\(verdict); check the key file; \(override)" }
        for variant in PassphraseVariant.all(of: secret) {
            if examine(self.image(key: LegacyAESKey.derive(from: variant.secret))).verdict == .plausible {
                return "\(verdict); but it fits \(variant.description): "
                    + "write exactly these bytes to a file and give --key-file FILE"
            }
        }
        return "\(verdict); check the spelling and the keyboard layout (a line feed at the end, Latin-1 and UTF-8 were "
            + "tried), and give other encodings with --key-file; \(override)"
    }
}
