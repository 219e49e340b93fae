// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Finds the keys of a volume: tries secrets on keyslots, and proves what they hold by the digests.
///
/// Sources: LUKS1 On-Disk Format Specification, "Master key recovery"; LUKS2 On-Disk Format Specification, "Keyslots
/// object" and "Digests object".
public struct LUKSUnlock {
    /// What the caller allows and wants.
    public struct Options: Sendable {
        /// The cost that a keyslot or a digest may ask for.
        public var limits = KeyDerivationLimits()
        /// The only keyslot to try; nil: all of them.
        public var keyslot: Int?
        /// What may be served, or used as key material, though it is not encrypted at all.
        public var plaintext: LUKSPlaintext.Permissions = []
        /// What else may be meant by a secret that does not fit, the likeliest first; tried when nothing has opened, and only
        /// told of.
        public var variants: @Sendable (Secret) -> [Variant] = { _ in [] }

        /// The defaults.
        public init() {}
    }

    /// A secret with the name of its source, for messages.
    public struct NamedSecret: Sendable {
        /// E.g. "the key file /root/key".
        public let name: String
        /// The bytes; none for the empty passphrase.
        public let secret: Secret
        /// The source held no byte at all, not even a newline.
        public let isMissing: Bool
        /// What may be the matter with it when it does not fit, and what to type then.
        public let hints: Hints

        /// Sentences for a secret that does not fit; nil where there is no sign of it.
        public struct Hints: Sendable {
            /// It is text that may stand for other bytes.
            public var encoding: String?
            /// A newline at its end.
            public var newline: String?
            /// What that newline makes of it when it is taken the other way.
            public var otherForm: OtherForm?

            /// None.
            public init() {}

            /// Those that there are.
            public var all: [String] { [encoding, newline].compactMap { $0 } }

            /// Those that are left when other bytes have been tried in vain: the newline may be told to be of no matter.
            public func all(after variants: [Secret]) -> [String] {
                guard let otherForm, variants.contains(where: { $0.equals(otherForm.secret) }) else { return all }
                return [encoding].compactMap { $0 }
            }
        }

        /// The same source, read in another way.
        public struct OtherForm: Sendable {
            /// The bytes.
            public let secret: Secret
            /// What to type for them.
            public let option: String

            /// - Parameter option: as the shell takes it.
            public init(secret: Secret, option: String) { (self.secret, self.option) = (secret, option) }
        }

        /// - Parameter name: never the contents.
        public init(name: String, secret: Secret, isMissing: Bool = false, hints: Hints = Hints()) {
            self.name = name
            self.secret = secret
            self.isMissing = isMissing
            self.hints = hints
        }
    }

    /// A keyslot that has been opened.
    public struct Opened {
        /// The digest that proves the key.
        public let digest: LUKSDigest
        /// The volume key.
        public let key: Secret
        /// Nil when the volume key was given.
        public let keyslot: Int?
        /// The source of the secret that fits.
        public let source: String
    }

    let volume: LUKSVolume
    let header: any BlockDevice
    let options: Options
    let willDerive: (_ what: String) -> Void

    /// - Parameters:
    ///   - header: the device that `volume` was read from.
    ///   - willDerive: called before every derivation with what is being tried, for a person who waits.
    public init(
        _ volume: LUKSVolume, header: any BlockDevice, options: Options,
        willDerive: @escaping (_ what: String) -> Void = { _ in }
    ) {
        self.volume = volume
        self.header = header
        self.options = options
        self.willDerive = willDerive
    }

    /// Refuses what no secret can change: a keyslot that is not there, costs beyond the limits.
    /// To be called before anybody types a passphrase.
    ///
    /// - Parameter volumeKeyCount: how many volume keys were given; with any, no keyslot may be needed.
    /// - Throws: ``UnlockError``.
    public func prepare(volumeKeyCount: Int) throws(UnlockError) {
        for digest in neededDigests {
            try digest.derivation.check(options.limits)
            guard volumeKeyCount == 0 else { continue }
            let keyslots = try keyslots(of: digest)
            var reasons: [Sentence] = []
            for keyslot in keyslots {
                do throws(UnlockError) { _ = try means(of: keyslot) } catch {
                    reasons.append("keyslot \(keyslot.number): \(error)")
                }
            }
            guard reasons.count < keyslots.count else {
                throw .refused("no keyslot can be tried: \(reasons.joined(separator: "; "))")
            }
        }
        try checkDemand(volumeKeyCount: volumeKeyCount, secretCount: volumeKeyCount == 0 ? 1 : 0)
    }

    /// The keys of the data that volume keys are, proved without a keyslot: one for each digest that one of them fits.
    /// - Throws: ``UnlockError`` when a digest costs more than is allowed.
    public func proved(by volumeKeys: [NamedSecret]) throws(UnlockError) -> [Opened] {
        var opened: [Opened] = []
        for digest in neededDigests {
            for key in volumeKeys {
                try digest.derivation.check(options.limits)
                willDerive("digest \(digest.number) (\(digest.derivation.description))")
                guard try proves(digest, key.secret) else { continue }
                opened.append(Opened(digest: digest, key: key.secret, keyslot: nil, source: key.name))
                break
            }
        }
        return opened
    }

    /// Tries every secret on every keyslot that can hold a key of the data, the cheapest first, until all encrypted
    /// segments have their key.
    ///
    /// - Parameter known: keys that are known already.
    /// - Returns: a key for each digest that a segment needs.
    /// - Throws: ``UnlockError`` when a key is not found.
    public func open(with secrets: [NamedSecret], besides known: [Opened] = []) throws(UnlockError) -> [Opened] {
        try checkDemand(volumeKeyCount: 0, secretCount: secrets.count)
        var opened: [Opened] = []
        for digest in neededDigests {
            if let found = known.first(where: { $0.digest.number == digest.number }) {
                opened.append(found)
                continue
            }
            let keyslots = try keyslots(of: digest)
            var trial = LUKSTrial()
            let found = trial.first(keyslots, secrets) { keyslot, secret in attempt(keyslot, digest, secret) }
            trial.skip(untried(of: digest))
            guard let found else {
                let search = searchVariants(of: secrets, keyslots, digest)
                throw trial.failure(secrets, hasOnlyOneKeyslot: options.keyslot != nil, search)
            }
            opened.append(found)
        }
        return opened
    }

    /// Says which digest none of the volume keys fits; `opened` is what they prove.
    public func failure(of volumeKeys: [NamedSecret], proving opened: [Opened]) -> UnlockError {
        let numbers = neededDigestNumbers.subtracting(opened.map(\.digest.number)).sorted()
        let holders = volumeKeys.map { "\($0.name) (\($0.secret.count) bytes)" }.joined(separator: ", ")
        return .wrongSecret(
            "\(holders) is not the volume key: digest \(numbers.first ?? 0) does not fit; \(adviceOfVolumeKey)"
                + "\(NamedSecret.hints(of: volumeKeys))")
    }

    /// Where the right volume key comes from.
    public var adviceOfVolumeKey: Sentence {
        "get the key with "
            + "`cryptsetup luksDump --dump-volume-key --volume-key-file NEW DEVICE` \(LUKSSupport.whatIsDevice)"
    }

    /// The digests whose keys the data needs; with their keys, it can be read.
    public var neededDigestNumbers: Set<Int> { Set(neededDigests.map(\.number)) }

    // MARK: One keyslot

    /// Tries a secret on a keyslot, whose cost was checked.
    func attempt(_ keyslot: LUKSKeyslot, _ digest: LUKSDigest, _ secret: NamedSecret) -> Outcome {
        do throws(UnlockError) {
            try digest.derivation.check(options.limits)
            let (cipher, hash) = try means(of: keyslot)
            willDerive("keyslot \(keyslot.number) (\(keyslot.derivation.description)) with \(secret.name)")
            let slotKey = try keyslot.derivation.derive(
                from: secret.secret, count: keyslot.encryptionKeySize, limits: options.limits)
            let split = try keyMaterial(of: keyslot, key: slotKey, cipher)
            let key = AntiForensic.merge(split, keySize: keyslot.keySize, stripes: keyslot.stripes, hash: hash)
            guard try proves(digest, key) else { return .wrongSecret }
            return .opened(Opened(digest: digest, key: key, keyslot: keyslot.number, source: secret.name))
        } catch {
            return .cannotTry(error.sentence)
        }
    }

    /// What a keyslot is opened with, if it may be.
    func means(of keyslot: LUKSKeyslot) throws(UnlockError) -> (cipher: CipherSpec, hash: HashAlgorithm) {
        let cipher = try keyslotCipher(keyslot)
        let hash = try Self.refusing { () throws(FormatError) in try HashAlgorithm(keyslot.splitHash) }
        try keyslot.derivation.check(options.limits)
        return (cipher, hash)
    }

    private func keyslotCipher(_ keyslot: LUKSKeyslot) throws(UnlockError) -> CipherSpec {
        let cipher = try Self.refusing { () throws(FormatError) in
            let spec = try CipherSpec(keyslot.encryption)
            try spec.check(keySize: keyslot.encryptionKeySize)
            return spec
        }
        // The volume was refused for a keyslot of the data; this is for those that open none.
        if let plaintext = LUKSPlaintext(keyslot), !options.plaintext.contains(plaintext.permission) {
            throw .refused(plaintext.refusal)
        }
        return cipher
    }

    /// Reads and decrypts the split key. It may end in a ragged sector, which is encrypted as a whole one.
    private func keyMaterial(
        of keyslot: LUKSKeyslot, key: Secret, _ spec: CipherSpec
    ) throws(UnlockError) -> Secret {
        let cipher = try Self.refusing { () throws(FormatError) in
            try spec.makeCipher(key: key, sectorSize: 512, isKeyslotArea: true)
        }
        let (length, overflow) = keyslot.keySize.multipliedReportingOverflow(by: keyslot.stripes)
        guard !overflow, length > 0, length <= Int(keyslot.area.length) else {
            throw .refused("its area of \(keyslot.area.length) bytes is too small for its key")
        }
        do {
            let sectors = try Secret(count: (length + 511) / 512 * 512) { (bytes) throws(BlockError) in
                try AlignedDevice(header).read(into: &bytes, at: keyslot.area.offset, .mayBlock)
                try cipher.decrypt(&bytes, firstSector: 0)
            }
            return sectors.count == length ? sectors : sectors.prefix(length)
        } catch {
            throw .refused("its key material cannot be read: \(error)")
        }
    }

    private func proves(_ digest: LUKSDigest, _ key: Secret) throws(UnlockError) -> Bool {
        let derived = try digest.derivation.derive(from: key, count: digest.digest.count, limits: options.limits)
        // In constant time, though the attacker has the header anyway.
        return derived.withBytes { derived in
            var difference: UInt8 = 0
            for (index, byte) in digest.digest.enumerated() { difference |= byte ^ derived.byte(at: index) }
            return difference == 0
        }
    }

    private static func refusing<Result>(
        _ body: () throws(FormatError) -> Result
    ) throws(UnlockError) -> Result {
        do { return try body() } catch { throw .refused(error.sentence) }
    }
}

extension LUKSUnlock.NamedSecret {
    /// The hints of all of them, as the end of a sentence about secrets that do not fit.
    ///
    /// - Parameter variants: other bytes that do not fit either.
    public static func hints(of secrets: [Self], after variants: [Secret] = []) -> String {
        secrets.flatMap { secret in secret.hints.all(after: variants).map { "; \(secret.name): \($0)" } }.joined()
    }

    /// How to give other bytes that somebody may have meant by it, and that fit.
    public func advice(for variant: Secret) -> Sentence {
        if let other = hints.otherForm, other.secret.equals(variant) { return "give \(other.option)" }
        return "write exactly these bytes to a file and give \(remedy: .keyFile) FILE"
    }
}
