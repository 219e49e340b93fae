// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Which keyslots are tried, and why not the others.
extension LUKSUnlock {
    /// Digests whose keys the encrypted segments need, by rising number.
    var neededDigests: [LUKSDigest] {
        volume.digests.filter { digest in
            volume.disk.contains { $0.isEncrypted && digest.segments.contains($0.number) }
        }
    }

    /// Those that are tried for the key of a digest, in that order.
    /// - Throws: ``UnlockError`` when there is none, or the one that the caller names is not one of them.
    func keyslots(of digest: LUKSDigest) throws(UnlockError) -> [LUKSKeyslot] {
        if let number = options.keyslot {
            let keyslot = try named(number)
            guard digest.keyslots.contains(number) else {
                throw .usage("keyslot \(number) does not hold the key of the data; leave \(remedy: .keyslot(nil)) out")
            }
            return [keyslot]
        }
        let candidates = volume.keyslots.filter { digest.keyslots.contains($0.number) && $0.priority != .ignore }
        guard candidates.isEmpty else { return candidates.sorted(by: Self.isTriedBefore) }
        let untried = untried(of: digest)
        guard untried.isEmpty else {
            let reasons = untried.map { (keyslot, reason) -> Sentence in "keyslot \(keyslot): \(reason)" }.joined(
                separator: "; ")
            throw .refused("no keyslot of the data is tried: \(reasons)")
        }
        throw noKeyslotOfData
    }

    /// What to do about keyslots that are not tried.
    public static let adviceToName: Sentence = "name the keyslot that it is for with \(remedy: .keyslot(nil))"

    /// What to do about a passphrase that does not fit.
    public static let adviceToSpell: Sentence = "check the spelling and the keyboard layout"

    private var noKeyslotOfData: UnlockError {
        let advice: Sentence = "give the volume key with \(remedy: .volumeKeyFile)"
        guard !volume.keyslots.isEmpty else {
            return .wrongSecret("no keyslot holds the key of the data; \(advice)")
        }
        let numbers = volume.keyslots.map { String($0.number) }.joined(separator: ", ")
        return .refused("no keyslot holds the key of the data (unbound: \(numbers)); \(advice)")
    }

    /// Why no passphrase whatsoever opens the data; nil when one may.
    public var hopelessness: Sentence? {
        let numbers = volume.keyslots.map(\.number) + volume.otherKeyslots.map(\.number)
        return numbers.contains(where: holdsKeyOfData) ? nil : noKeyslotOfData.sentence
    }

    /// The keyslots of a digest that are not tried by themselves, with the reasons; none when the caller names one.
    func untried(of digest: LUKSDigest) -> [(keyslot: Int, reason: Sentence)] {
        guard options.keyslot == nil else { return [] }
        return volume.keyslots.filter { digest.keyslots.contains($0.number) }.compactMap { keyslot in
            Self.reasonToIgnore(keyslot).map { (keyslot.number, $0) }
        } + volume.otherKeyslots.filter { digest.keyslots.contains($0.number) }.map { ($0.number, Sentence($0.reason)) }
    }

    private static func reasonToIgnore(_ keyslot: LUKSKeyslot) -> Sentence? {
        keyslot.priority == .ignore
            ? "it has priority ignore and is tried only when it is named: \(remedy: .keyslot(keyslot.number))" : nil
    }

    /// The keyslot that the caller names.
    private func named(_ number: Int) throws(UnlockError) -> LUKSKeyslot {
        if let keyslot = volume.keyslots.first(where: { $0.number == number }) { return keyslot }
        if let other = volume.otherKeyslots.first(where: { $0.number == number }) {
            throw .refused("keyslot \(number) cannot be used: \(other.reason)")
        }
        let numbers = volume.keyslots.map { String($0.number) }.joined(separator: ", ")
        throw .usage(
            "there is no keyslot \(number); the volume has \(numbers.isEmpty ? "none" : numbers): see \(remedy: .describeImage)"
        )
    }

    /// Preferred ones first, then by cost.
    private static func isTriedBefore(_ first: LUKSKeyslot, _ second: LUKSKeyslot) -> Bool {
        (second.priority.rawValue, first.derivation.cost(count: first.encryptionKeySize), first.number)
            < (first.priority.rawValue, second.derivation.cost(count: second.encryptionKeySize), second.number)
    }

    // MARK: A survey

    /// What became of a secret on a keyslot.
    public enum Outcome {
        case opened(Opened)
        case wrongSecret
        /// Why.
        case cannotTry(Sentence)
    }

    /// A keyslot of a survey, and why it is not tried.
    private struct Surveyed {
        let number: Int
        let keyslot: LUKSKeyslot?
        let digest: LUKSDigest?
        let reason: Sentence?
    }

    /// Refuses a survey in which nothing could be tried, or that takes longer than is allowed, before anybody types a
    /// passphrase.
    /// - Throws: ``UnlockError``.
    public func prepareSurvey() throws(UnlockError) {
        let surveyed = try surveyed()
        guard surveyed.contains(where: { $0.reason == nil }) else {
            guard !surveyed.isEmpty else {
                throw noKeyslotOfData
            }
            let reasons = surveyed.map { slot -> Sentence in "keyslot \(slot.number): \(slot.reason ?? "")" }.joined(
                separator: "; ")
            throw .refused("no keyslot can be tried: \(reasons)")
        }
        try checkDemand(surveyed, secretCount: 1)
    }

    /// Which keyslots each of the secrets opens. Those that hold no key of the data are tried as well, those that are
    /// ignored only when they are named.
    /// - Returns: for each secret and keyslot whether it opens, or why it is not tried.
    /// - Throws: ``UnlockError`` when all of it would take longer than is allowed.
    public func survey(_ secrets: [NamedSecret]) throws(UnlockError) -> [[(keyslot: Int, outcome: Outcome)]] {
        let surveyed = try surveyed()
        try checkDemand(surveyed, secretCount: secrets.count)
        return secrets.map { secret in
            surveyed.map { slot in
                guard slot.reason == nil, let keyslot = slot.keyslot, let digest = slot.digest else {
                    return (slot.number, .cannotTry(slot.reason ?? ""))
                }
                return (slot.number, attempt(keyslot, digest, secret))
            }
        }
    }

    /// Does a keyslot hold a key that the data needs?
    public func holdsKeyOfData(_ keyslot: Int) -> Bool { neededDigests.contains { $0.keyslots.contains(keyslot) } }

    private func surveyed() throws(UnlockError) -> [Surveyed] {
        var keyslots = volume.keyslots.sorted(by: Self.isTriedBefore)
        if let number = options.keyslot { keyslots = [try named(number)] }
        let known = keyslots.map { keyslot in
            let digest = volume.digests.first { $0.keyslots.contains(keyslot.number) }
            var reason = options.keyslot == nil ? Self.reasonToIgnore(keyslot) : nil
            if digest == nil { reason = "no digest proves its key" }
            do throws(UnlockError) {
                _ = try means(of: keyslot)
                try digest?.derivation.check(options.limits)
            } catch { reason = reason ?? error.sentence }
            return Surveyed(number: keyslot.number, keyslot: keyslot, digest: digest, reason: reason)
        }
        guard options.keyslot == nil else { return known }
        return known
            + volume.otherKeyslots.filter { !$0.isOfReencryption }.map {
                Surveyed(number: $0.number, keyslot: nil, digest: nil, reason: Sentence($0.reason))
            }
    }

    private func checkDemand(_ surveyed: [Surveyed], secretCount: Int) throws(UnlockError) {
        let costs = surveyed.compactMap { slot -> UInt64? in
            guard slot.reason == nil, let keyslot = slot.keyslot, let digest = slot.digest else { return nil }
            return cost(of: keyslot, digest)
        }
        try checkDemand(Self.sum(costs, times: secretCount), costs.count, secretCount)
    }
}
