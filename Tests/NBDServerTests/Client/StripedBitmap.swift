// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A bitmap whose every other stripe is dirty.
final class StripedBitmap: DirtyBitmap {
    let name: String
    private let stripe: UInt64

    init(_ name: String, stripe: UInt64) { (self.name, self.stripe) = (name, stripe) }

    func run(
        at offset: UInt64, limit: UInt64, _ mode: ReadMode
    ) throws(BlockError) -> (isDirty: Bool, length: UInt64) {
        ((offset / stripe).isMultiple(of: 2), min(limit, stripe - offset % stripe))
    }
}
