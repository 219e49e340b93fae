// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// Which images are made of one old image.
struct MigrationScope {
    /// Is the disk copied, rather than a part of it?
    let isWhole: Bool
    /// Are its internal snapshots as well?
    let hasSnapshots: Bool
    let chain: ChainTreatment

    /// May several images be made of it?
    var hasSeveral: Bool { hasSnapshots || chain == .keep }

    /// What says so, as the shell takes it, with a space before each.
    var arguments: String { (hasSnapshots ? " --snapshots" : "") + (chain == .keep ? " --chain keep" : "") }

    /// - Parameter hasHeader: the LUKS header is in a file of its own.
    /// - Throws: `ValidationError` when there is no whole image.
    func check(hasHeader: Bool) throws(ValidationError) {
        guard !hasSeveral || isWhole && !hasHeader else {
            throw ValidationError(
                "--snapshots and --chain keep are for a whole image: leave out --partition, --logical-volume, --snapshot, --offset, --size and --header."
            )
        }
    }
}
