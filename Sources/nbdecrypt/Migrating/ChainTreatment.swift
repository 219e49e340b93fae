// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// What becomes of the files that an image stands on.
enum ChainTreatment: String, CaseIterable, ExpressibleByArgument {
    /// One new image has the whole disk.
    case flatten
    /// Each gets a new image of its own, and these stand on each other as the old ones do.
    case keep
}
