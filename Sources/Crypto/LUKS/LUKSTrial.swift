// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// What happened while secrets were tried on keyslots.
struct LUKSTrial {
    private var tried: [Int] = []
    private var skipped: [(keyslot: Int, reason: Sentence)] = []

    /// The first keyslot that opens, tried in this order with every secret.
    mutating func first(
        _ keyslots: [LUKSKeyslot], _ secrets: [LUKSUnlock.NamedSecret],
        _ attempt: (LUKSKeyslot, LUKSUnlock.NamedSecret) -> LUKSUnlock.Outcome
    ) -> LUKSUnlock.Opened? {
        keyslots: for keyslot in keyslots {
            for secret in secrets {
                switch attempt(keyslot, secret) {
                case .opened(let opened): return opened
                case .wrongSecret: if tried.last != keyslot.number { tried.append(keyslot.number) }
                case .cannotTry(let reason):
                    skipped.append((keyslot.number, reason))
                    continue keyslots
                }
            }
        }
        return nil
    }

    /// Notes keyslots that are not tried for other reasons.
    mutating func skip(_ keyslots: [(keyslot: Int, reason: Sentence)]) { skipped += keyslots }

    /// Why nothing opened, as far as it is known.
    ///
    /// - Parameter search: has shown what would have opened, or what not either.
    func failure(
        _ secrets: [LUKSUnlock.NamedSecret], hasOnlyOneKeyslot: Bool, _ search: LUKSUnlock.VariantSearch
    ) -> UnlockError {
        let reasons = skipped.map { (keyslot, reason) -> Sentence in "; keyslot \(keyslot) was not tried: \(reason)" }
            .joined()
        guard !tried.isEmpty else {
            return .refused("no keyslot can be tried\(reasons)")
        }
        let names = secrets.map(\.name).joined(separator: ", ")
        let slots =
            tried.count == 1
            ? "1 keyslot (\(tried[0]))"
            : "\(tried.count) keyslots (\(tried.sorted().map(String.init).joined(separator: ", ")))"
        let said: Sentence = "no keyslot opens with \(names): \(slots) tried\(reasons); "
        if let fitting = search.fitting {
            // What else may be the matter is of no matter then.
            return .wrongSecret(
                "\(said)but keyslot \(fitting.keyslot) opens with \(fitting.source.name) \(fitting.advice)")
        }
        let tried = LUKSUnlock.Variant.list(search.tried)
        let hints = LUKSUnlock.NamedSecret.hints(of: secrets, after: search.excluded)
        guard skipped.isEmpty else {
            return .notAllTried("\(said)\(LUKSUnlock.adviceToName), or \(LUKSUnlock.adviceToSpell)\(tried)\(hints)")
        }
        return .wrongSecret(
            said + (hasOnlyOneKeyslot ? "leave \(remedy: .keyslot(nil)) out to try all" : LUKSUnlock.adviceToSpell)
                + "\(tried)\(hints)")
    }
}
