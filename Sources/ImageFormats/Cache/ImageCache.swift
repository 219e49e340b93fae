// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The memory for slices of tables and for unpacked clusters of all images that share it: however many layers and
/// snapshots there are, it does not grow.
///
/// Each image has a ``CacheShare``.
public final class ImageCache: Sendable {
    /// A piece of an image.
    struct Key: Hashable {
        /// Which image; see ``makeOwner()``.
        let owner: Int
        /// Where in its file, in bytes.
        let offset: UInt64
        /// How long it is: words of a slice, or bytes of the compressed form of a cluster. In a damaged image, pieces of
        /// different lengths can be in one place.
        let count: Int

        /// Of one word, since a read looks up two slices: few pieces differ in nothing but their lengths.
        func hash(into hasher: inout Hasher) { hasher.combine(offset ^ UInt64(truncatingIfNeeded: owner)) }
    }

    /// Slices of tables.
    let slices = Locked(SliceCache(maximumCost: 4 << 20))
    /// Unpacked clusters.
    let clusters = Locked(TwoGenerationCache<Key, [UInt8]>(maximumCost: 4 << 20))
    private let owners = Locked(0)

    /// An empty cache of 8 MiB.
    public init() {}

    /// A number that no other image has.
    func makeOwner() -> Int {
        owners.withLock { owners in
            owners += 1
            return owners
        }
    }
}
