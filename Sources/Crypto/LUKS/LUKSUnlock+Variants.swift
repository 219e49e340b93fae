// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

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
    }

    /// A variant that opens a keyslot.
    struct Fitting {
        /// The source of the secret.
        let source: String
        let description: String
        let keyslot: Int
    }

    /// Looks for one, after all secrets have been tried on all keyslots: first of each secret the likeliest, on the cheapest
    /// keyslots, for no longer by estimate than that has taken, and not beyond the limit of all.
    func fittingVariant(of secrets: [NamedSecret], _ keyslots: [LUKSKeyslot], _ digest: LUKSDigest) -> Fitting? {
        let trials = keyslots.map { (keyslot: $0, cost: cost(of: $0, digest)) }.filter { $0.cost > 0 }
        let taken = Self.sum(trials.map(\.cost), times: secrets.count)
        let (allowed, isMuch) = options.limits.seconds.multipliedReportingOverflow(by: 1_000_000_000)
        var left = min(taken, isMuch ? .max : allowed - min(allowed, taken))
        let variants = secrets.map { $0.secret.count > 0 ? options.variants($0.secret) : [] }
        for rank in 0..<(variants.map(\.count).max() ?? 0) {
            for (secret, variants) in zip(secrets, variants) where rank < variants.count {
                let variant = variants[rank]
                guard !secrets.contains(where: { $0.secret.equals(variant.secret) }) else { continue }
                for (keyslot, cost) in trials where cost <= left {
                    left -= cost
                    let named = NamedSecret(name: "\(secret.name) \(variant.description)", secret: variant.secret)
                    guard case .opened = attempt(keyslot, digest, named) else { continue }
                    return Fitting(
                        source: secret.name, description: variant.description, keyslot: keyslot.number)
                }
            }
        }
        return nil
    }
}
