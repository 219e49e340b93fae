// SPDX-License-Identifier: Apache-2.0

package import BlockIO
package import Crypto
import ImageFormats

/// What the given secrets open, without serving anything: `info --check-passphrase`.
package struct PassphraseCheck {
    package struct Outcome {
        /// The source of the secret, never its contents.
        package let source: String
        /// Does it open the image? Nil: the image does not tell.
        package let fits: Bool?
        /// The keyslots that it opens; LUKS only.
        package var keyslots: [Int]?
        /// Why it fits or not, and keyslots that could not be tried.
        package var notes: [Sentence] = []
    }

    package private(set) var outcomes: [Outcome] = []
    /// The keys that were found, of LUKS.
    package private(set) var opened: [LUKSUnlock.Opened] = []
    /// The first cipher of AES that may be right.
    package private(set) var cipher: LegacyAESCipher?

    /// Can it be that the secrets together open the image?
    package let mayFit: Bool

    /// Why it is not certain that no secret opens the data: keyslots of it that were not tried, or that there is none, and
    /// what to do; empty when each secret was tried wherever it may fit.
    package let untried: [Sentence]

    /// What to do when no secret opens the image: give a variant that fits, or look for another secret.
    package private(set) var advice: Sentence = ""

    /// Tries all secrets of `ring` on all keyslots; asks a person when there are none.
    /// - Throws: ``FormatError`` when `serve` would refuse the container because it is not encrypted; ``OpeningError`` when a
    ///   secret cannot be read.
    package init(
        luks container: LUKSContainer, ring: SecretRing, options: LUKSUnlock.Options, path: String, log: OpeningLog
    ) throws {
        try LUKSPlaintext.check(container.volume, allowing: options.plaintext)
        guard container.volume.disk.contains(where: \.isEncrypted) else {
            throw OpeningError(.usage, "\(path) is not encrypted: there is no passphrase to check")
        }
        let progress = DerivationProgress(log: log)
        defer { progress.end() }
        let unlock = LUKSUnlock(container.volume, header: container.header, options: options.tryingVariants) {
            progress.begin($0)
        }
        let needed = unlock.neededDigestNumbers
        var proved: Set<Int> = []
        let volumeKeys = try ring.volumeKeys()
        do {
            if volumeKeys.isEmpty {
                try unlock.prepareSurvey()
            } else {
                try unlock.prepare(volumeKeyCount: volumeKeys.count)
            }
        } catch { throw OpeningError(error, image: path) }
        for key in volumeKeys {
            let keys = (try? unlock.proved(by: [key])) ?? []
            opened += keys
            proved.formUnion(keys.map(\.digest.number))
            let fits = !keys.isEmpty
            outcomes.append(Outcome(source: key.name, fits: fits, notes: fits ? [] : key.hints.sentences))
        }
        let own = SecretUse.passphraseOfLayer(0)
        let secrets = volumeKeys.isEmpty || ring.hasPassphrases(for: own) ? try ring.all(path, own: own) : []
        let survey: [[(keyslot: Int, outcome: LUKSUnlock.Outcome)]]
        do { survey = try unlock.survey(secrets) } catch { throw OpeningError(error, image: path) }
        var untried: [Int: Sentence] = [:]
        var (search, found) = (LUKSUnlock.VariantSearch(), proved)
        for case .opened(let key) in survey.joined().map(\.outcome) { found.insert(key.digest.number) }
        if !needed.isSubset(of: found) {
            // Where no keyslot can be tried, that has been said.
            search = (try? unlock.searchVariants(of: secrets, besides: found)) ?? search
        }
        for (secret, results) in zip(secrets, survey) {
            var keyslots: [Int] = []
            var notes: [Sentence] = []
            var fits = false
            for (keyslot, result) in results {
                switch result {
                case .opened(let key):
                    opened.append(key)
                    keyslots.append(keyslot)
                    proved.insert(key.digest.number)
                    if needed.contains(key.digest.number) {
                        fits = true
                    } else {
                        notes.append("keyslot \(keyslot) is unbound: its key opens no data")
                    }
                case .wrongSecret: break
                case .cannotTry(let reason):
                    notes.append("keyslot \(keyslot) was not tried: \(reason)")
                    if unlock.holdsKeyOfData(keyslot) { untried[keyslot] = reason }
                }
            }
            if let fitting = search.fitting {
                if fitting.source.name == secret.name {
                    notes.append("but keyslot \(fitting.keyslot) opens with it \(fitting.advice)")
                }
            } else if keyslots.isEmpty {
                notes += secret.hints.all(after: search.excluded).map { Sentence($0) }
            }
            outcomes.append(Outcome(source: secret.name, fits: fits, keyslots: keyslots.sorted(), notes: notes))
        }
        mayFit = needed.isSubset(of: proved)
        advice =
            if let fitting = search.fitting {
                "but keyslot \(fitting.keyslot) opens with \(fitting.source.name) \(fitting.advice)"
            } else if secrets.isEmpty {
                unlock.adviceOfVolumeKey
            } else {
                "\(LUKSUnlock.adviceToSpell)\(LUKSUnlock.Variant.list(search.tried)), or give another with \(remedy: .keyFile) FILE"
            }
        let sentences = untried.sorted { $0.key < $1.key }.map { (number, reason) -> Sentence in
            "keyslot \(number) was not tried: \(reason)"
        }
        self.untried =
            sentences.isEmpty
            ? volumeKeys.isEmpty ? [unlock.hopelessness].compactMap(\.self) : []
            : sentences + [LUKSUnlock.adviceToName]
    }

    /// Judges the decrypted disk, for an AES image proves no passphrase.
    /// - Throws: ``OpeningError`` when a secret cannot be read.
    ///
    /// - Parameter disk: what the image alone says if a cipher is right.
    package init(legacyAES disk: (LegacyAESCipher) -> any BlockDevice, ring: SecretRing, path: String) throws {
        let own = SecretUse.passphraseOfLayer(0)
        let raw = ring.isPinned(own) ? nil : try ring.rawKey().map { [$0] }
        let secrets = try raw ?? ring.all(path, own: own)
        for secret in secrets {
            guard raw == nil || secret.secret.count == LegacyAESKey.count else {
                let notes: [Sentence] = ["it does not hold \(LegacyAESKey.count) bytes"] + secret.hints.sentences
                outcomes.append(Outcome(source: secret.name, fits: false, notes: notes))
                continue
            }
            let key = raw == nil ? LegacyAESKey.derive(from: secret.secret) : secret.secret
            let cipher = LegacyAESCipher(key: key)
            let check = ContentCheck.examine(AlignedDevice(disk(cipher)))
            let fits: Bool? =
                switch check.verdict {
                case .plausible: true
                case .implausible: false
                case .cannotTell: nil
                }
            if fits != false { self.cipher = self.cipher ?? cipher }
            let notes = [Sentence(check.summary)] + (fits == false ? secret.hints.sentences : [])
            outcomes.append(Outcome(source: secret.name, fits: fits, notes: notes))
        }
        mayFit = outcomes.contains { $0.fits != false }
        untried = []
        guard !mayFit else { return }
        let override: Sentence =
            "if the disk really holds nothing but random data, add \(remedy: .skipPassphraseCheck) to open it"
        guard raw == nil else {
            advice = "check the key file; \(override)"
            return
        }
        let search = PassphraseVariant.search(of: secrets, disk)
        guard let (secret, variant) = search.fitting else {
            advice =
                "\(LUKSUnlock.adviceToSpell)\(LUKSUnlock.Variant.list(search.tried)), and give other encodings with \(remedy: .keyFile); \(override)"
            return
        }
        let instruction: Sentence = "\(variant.description): \(secret.advice(for: variant.secret))"
        advice = "but \(secret.name) fits \(instruction)"
        guard let index = outcomes.firstIndex(where: { $0.source == secret.name }) else { return }
        // What else may be the matter is of no matter then.
        outcomes[index].notes = [outcomes[index].notes[0], "but it fits \(instruction)"]
    }
}

extension NamedSecret.Hints {
    fileprivate var sentences: [Sentence] { all.map { Sentence($0) } }
}
