// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

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

    private let slices = Locked(TwoGenerationCache<Key, [UInt64]>(maximumCost: 4 << 20))
    private let clusters = Locked(TwoGenerationCache<Key, [UInt8]>(maximumCost: 4 << 20))
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

    /// The entries of a table that a key stands for; read from `file` when they are not known.
    func entries(_ key: Key, of file: any BlockDevice, _ mode: ReadMode) throws(BlockError) -> [UInt64] {
        let cost = key.count * 8
        if let entries = slices.withLock({ $0.value(for: key, cost: cost) }) { return entries }
        let entries = try file.readEntries(count: key.count, at: key.offset, mode)
        slices.withLock { $0.insert(entries, for: key, cost: cost) }
        return entries
    }

    /// Fills `part` with the bytes from `start` on of a cluster of `size` bytes that is compressed; `key.count` is its
    /// length in the file.
    ///
    /// - Parameter unpack: fills a whole cluster; called when it is not known and the caller may wait.
    func read(
        _ part: inout MutableRawSpan, from start: Int, ofCluster key: Key, size: Int, _ mode: ReadMode,
        unpack: (inout MutableRawSpan) throws(BlockError) -> Void
    ) throws(BlockError) {
        let wanted = start..<(start + part.byteCount)
        if let bytes = clusters.withLock({ $0.value(for: key, cost: size) }) {
            bytes.withBytes { part.copy(from: $0.extracting(wanted)) }
            return
        }
        // Unpacking takes long enough to be worth another core.
        guard mode.mayWait else { throw .wouldBlock }
        if part.byteCount == size { return try unpack(&part) }
        var bytes = [UInt8](repeating: 0, count: size)
        try bytes.withMutableBytes { (bytes) throws(BlockError) in try unpack(&bytes) }
        clusters.withLock { $0.insert(bytes, for: key, cost: size) }
        bytes.withBytes { part.copy(from: $0.extracting(wanted)) }
    }
}

extension BlockDevice {
    /// Reads `count` entries of a table of qcow or qcow2: big-endian, 64 bits each.
    func readEntries(count: Int, at offset: UInt64, _ mode: ReadMode) throws(BlockError) -> [UInt64] {
        try read(count: count * 8, at: offset, mode).withBytes { bytes in
            (0..<count).map { bytes.bigEndianWord(at: $0 * 8) }
        }
    }
}
