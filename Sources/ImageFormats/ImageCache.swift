// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The memory for slices of tables and for unpacked clusters of all images that share it: however many layers and
/// snapshots there are, it does not grow.
public final class ImageCache: Sendable {
    /// A piece of an image.
    struct Key: Hashable {
        /// Which image; see ``makeOwner()``.
        let owner: Int
        /// Where in its file, in bytes.
        let offset: UInt64
        /// How long it is: in a damaged image, pieces of different lengths can be in one place.
        let count: Int
    }

    private let slices = Mutex(TwoGenerationCache<Key, [UInt64]>(maximumCost: 4 << 20))
    private let clusters = Mutex(TwoGenerationCache<Key, [UInt8]>(maximumCost: 4 << 20))
    private let owners = Mutex(0)

    /// An empty cache of 8 MiB.
    public init() {}

    /// A number that no other image has.
    func makeOwner() -> Int {
        owners.withLock { owners in
            owners += 1
            return owners
        }
    }

    /// Entries of a table, if they are known.
    func slice(_ key: Key) -> [UInt64]? { slices.withLock { $0.value(for: key, cost: key.count * 8) } }

    /// Keeps entries of a table; `key.count` is their number.
    func insert(slice: [UInt64], _ key: Key) { slices.withLock { $0.insert(slice, for: key, cost: key.count * 8) } }

    /// A cluster of `size` bytes that was compressed, if it is known.
    func cluster(_ key: Key, size: Int) -> [UInt8]? { clusters.withLock { $0.value(for: key, cost: size) } }

    /// Keeps an unpacked cluster; `key.count` is its length in the file.
    func insert(cluster: [UInt8], _ key: Key) {
        clusters.withLock { $0.insert(cluster, for: key, cost: cluster.count) }
    }
}
