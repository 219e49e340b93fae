// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats
import Logging

/// What the given secrets open, without serving anything: `info --check-passphrase`.
struct PassphraseCheck: Encodable {
    struct Outcome: Encodable {
        /// The source of the secret, never its contents.
        let source: String
        /// Does it open the image? Nil: the image does not tell.
        let fits: Bool?
        /// The keyslots that it opens; LUKS only.
        var keyslots: [Int]?
        /// Why it fits or not, and keyslots that could not be tried.
        var notes: [String] = []
    }

    private(set) var outcomes: [Outcome] = []

    /// Can it be that one of the secrets opens the image?
    var mayFit: Bool { outcomes.contains { $0.fits != false } }

    /// Tries all secrets of `ring` on all keyslots; asks a person when there are none.
    /// - Throws: ``Failure`` when a secret cannot be read.
    init(luks container: LUKSContainer, ring: SecretRing, options: LUKSUnlock.Options, path: String, log: Logger) throws
    {
        let progress = DerivationProgress(log: log)
        defer { progress.end() }
        let unlock = LUKSUnlock(container.volume, header: container.header, options: options) { progress.begin($0) }
        if let key = try ring.volumeKey() {
            do {
                _ = try unlock.open(volumeKey: key)
                outcomes.append(Outcome(source: key.name, fits: true))
            } catch {
                outcomes.append(Outcome(source: key.name, fits: false, notes: [error.description]))
            }
            return
        }
        outcomes = try ring.all(path).map { secret in
            var outcome = Outcome(source: secret.name, fits: false, keyslots: nil)
            var opened: [Int] = []
            for (keyslot, result) in unlock.survey(secret) {
                switch result {
                case .opened: opened.append(keyslot)
                case .wrongSecret: break
                case .cannotTry(let reason): outcome.notes.append("keyslot \(keyslot) was not tried: \(reason)")
                }
            }
            return Outcome(
                source: outcome.source, fits: !opened.isEmpty, keyslots: opened.sorted(), notes: outcome.notes)
        }
    }

    /// Judges the decrypted disk, for an AES image proves no passphrase.
    /// - Throws: ``Failure`` when a secret cannot be read.
    ///
    /// - Parameter disk: what the image alone says if a cipher is right.
    init(legacyAES disk: (LegacyAESCipher) -> any BlockDevice, ring: SecretRing, path: String) throws {
        let raw = try ring.rawKey().map { [$0] }
        outcomes = try (raw ?? ring.all(path)).map { secret in
            guard raw == nil || secret.secret.count == LegacyAESKey.count else {
                return Outcome(
                    source: secret.name, fits: false, notes: ["it does not hold \(LegacyAESKey.count) bytes"])
            }
            let key = raw == nil ? LegacyAESKey.derive(from: secret.secret) : secret.secret
            let check = ContentCheck.examine(AlignedDevice(disk(LegacyAESCipher(key: key))))
            let fits: Bool? =
                switch check.verdict {
                case .plausible: true
                case .implausible: false
                case .cannotTell: nil
                }
            return Outcome(source: secret.name, fits: fits, notes: [check.summary])
        }
    }

    /// Lines for people.
    var lines: [String] {
        outcomes.flatMap { outcome in
            let slots = outcome.keyslots.map { $0.map(String.init).joined(separator: ", ") } ?? ""
            let verdict =
                switch (outcome.fits, slots.isEmpty) {
                case (true?, false): "opens keyslot \(slots)"
                case (true?, true): "fits"
                case (nil, _): "cannot be judged"
                case (false?, _): outcome.keyslots == nil ? "does not fit" : "opens no keyslot"
                }
            return ["\(outcome.source) \(verdict)"] + outcome.notes.map { "  \($0)" }
        }
    }
}
