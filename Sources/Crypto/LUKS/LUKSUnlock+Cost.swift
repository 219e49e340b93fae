// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// What opening a volume takes in all: each step is bounded by itself, but there are 32 keyslots, and as many secrets as
/// somebody gives.
extension LUKSUnlock {
    /// Refuses to begin what would take longer in all than is allowed, in the worst case: that nothing fits.
    func checkDemand(volumeKeyCount: Int, secretCount: Int) throws(UnlockError) {
        var trials: [UInt64] = []
        for digest in neededDigests where secretCount > 0 {
            trials += try keyslots(of: digest).map { cost(of: $0, digest) }
        }
        let proofs = Self.sum(
            neededDigests.map { $0.derivation.cost(count: $0.digest.count) }, times: volumeKeyCount)
        let total = Self.sum([proofs, Self.sum(trials, times: secretCount)], times: 1)
        try checkDemand(total, secretCount == 0 ? neededDigests.count : trials.count, max(secretCount, volumeKeyCount))
    }

    /// The same of a sum in nanoseconds, for so many keyslots and secrets.
    func checkDemand(_ total: UInt64, _ placeCount: Int, _ secretCount: Int) throws(UnlockError) {
        let seconds = total / 1_000_000_000
        guard seconds > options.limits.seconds else { return }
        let secrets = secretCount == 1 ? "a secret" : "\(secretCount) secrets"
        let places = placeCount == 1 ? "a keyslot" : "\(placeCount) keyslots and digests"
        throw .refused(
            "trying \(secrets) on \(places) could take about \(seconds) seconds, allowed for a volume are "
                + "\(options.limits.seconds); "
                + (options.keyslot == nil && placeCount > 1
                    ? "name the keyslot with \(remedy: .keyslot(nil)), or, " : "")
                + "if the image is to be trusted, allow more with \(remedy: .derivationSeconds)")
    }

    /// What one try of a secret takes, in nanoseconds; 0 for a keyslot that is not tried.
    func cost(of keyslot: LUKSKeyslot, _ digest: LUKSDigest) -> UInt64 {
        guard (try? means(of: keyslot)) != nil, (try? digest.derivation.check(options.limits)) != nil else { return 0 }
        return Self.sum(
            [
                keyslot.derivation.cost(count: keyslot.encryptionKeySize),
                digest.derivation.cost(count: digest.digest.count),
            ], times: 1)
    }

    /// The sum of costs, `count` times; saturates.
    static func sum(_ costs: [UInt64], times count: Int) -> UInt64 {
        let (product, overflow) = costs.saturatingSum.multipliedReportingOverflow(by: UInt64(max(count, 0)))
        return overflow ? .max : product
    }
}
