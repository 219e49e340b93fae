// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// What else somebody may have meant by a secret that does not fit: a digest proves it.
extension LUKSUnlock {
    /// Other bytes for a secret.
    public struct Variant {
        /// What is different, as in "with a line feed at its end".
        public let description: String
        /// The bytes.
        public let secret: Secret

        /// - Parameter description: follows "it fits", and tells none of the bytes.
        public init(description: String, secret: Secret) {
            (self.description, self.secret) = (description, secret)
        }

        /// What was tried, for the end of a sentence, as in " (tried as well: in Latin-1 instead of UTF-8)"; "" when nothing was.
        public static func list(_ descriptions: [String]) -> String {
            var known: Set<String> = []
            let different = descriptions.filter { known.insert($0).inserted }
            return different.isEmpty ? "" : " (tried as well: \(different.joined(separator: "; ")))"
        }
    }

    /// A variant that opens a keyslot.
    public struct Fitting {
        /// Of which it is a variant.
        public let source: NamedSecret
        /// The other bytes.
        public let variant: Variant
        /// The number of the keyslot.
        public let keyslot: Int

        /// What to do, behind the name of the source or a word for it, as in "with a line feed at its end: give …".
        public var advice: Sentence { "\(variant.description): \(source.advice(for: variant.secret))" }
    }

    /// What has come of a search for one.
    public struct VariantSearch {
        /// The first that fits.
        public fileprivate(set) var fitting: Fitting?
        /// What does not fit, wherever it was tried: what is different, and on which keyslots if not on all.
        public fileprivate(set) var tried: [String] = []
        /// Those that were tried on all keyslots.
        public fileprivate(set) var excluded: [Secret] = []

        /// Nothing has been tried.
        public init() {}
    }

    /// Looks for one that opens the data, when no secret has opened it.
    ///
    /// - Parameter known: the numbers of digests whose keys are known.
    /// - Throws: ``UnlockError`` when there is no keyslot to try.
    public func searchVariants(
        of secrets: [NamedSecret], besides known: Set<Int>
    ) throws(UnlockError) -> VariantSearch {
        guard let digest = neededDigests.first(where: { !known.contains($0.number) }) else { return VariantSearch() }
        return searchVariants(of: secrets, try keyslots(of: digest), digest)
    }

    /// Looks for one, after all secrets have been tried on all keyslots: first of each secret the likeliest, on the cheapest
    /// keyslots, for no longer by estimate than that has taken, and not beyond the limit of all.
    func searchVariants(
        of secrets: [NamedSecret], _ keyslots: [LUKSKeyslot], _ digest: LUKSDigest
    ) -> VariantSearch {
        let trials = keyslots.map { (keyslot: $0, cost: cost(of: $0, digest)) }.filter { $0.cost > 0 }
        let taken = Self.sum(trials.map(\.cost), times: secrets.count)
        let (allowed, isMuch) = options.limits.seconds.multipliedReportingOverflow(by: 1_000_000_000)
        var left = min(taken, isMuch ? .max : allowed - min(allowed, taken))
        let variants = secrets.map { $0.secret.count > 0 ? options.variants($0.secret) : [] }
        var search = VariantSearch()
        for rank in 0..<(variants.map(\.count).max() ?? 0) {
            for (secret, variants) in zip(secrets, variants) where rank < variants.count {
                let variant = variants[rank]
                guard !secrets.contains(where: { $0.secret.equals(variant.secret) }) else { continue }
                var numbers: [Int] = []
                for (keyslot, cost) in trials where cost <= left {
                    left -= cost
                    let named = NamedSecret(name: "\(secret.name) \(variant.description)", secret: variant.secret)
                    guard case .opened = attempt(keyslot, digest, named) else {
                        numbers.append(keyslot.number)
                        continue
                    }
                    search.fitting = Fitting(source: secret, variant: variant, keyslot: keyslot.number)
                    return search
                }
                search.take(variant, numbers, isAll: numbers.count == trials.count)
            }
        }
        return search
    }
}

extension LUKSUnlock.VariantSearch {
    fileprivate mutating func take(_ variant: LUKSUnlock.Variant, _ keyslots: [Int], isAll: Bool) {
        guard !keyslots.isEmpty else { return }
        if isAll { excluded.append(variant.secret) }
        let places = keyslots.sorted().map(String.init).joined(separator: ", ")
        tried.append(isAll ? variant.description : "\(variant.description), on keyslot \(places) alone")
    }
}
