// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// What one image keeps in an ``ImageCache``: slices of its tables, and clusters that have been unpacked.
///
/// Any thread may call.
final class CacheShare: Sendable {
    /// Holds the tables.
    let file: any BlockDevice
    private let cache: ImageCache
    private let owner: Int

    /// The share of an image that has none yet.
    init(of cache: ImageCache, for file: any BlockDevice) {
        self.cache = cache
        self.file = file
        owner = cache.makeOwner()
    }

    /// A slice of a table: `count` words at `offset`, big-endian; read from the file when they are not known.
    func words(at offset: UInt64, count: Int, _ mode: ReadMode) throws(BlockError) -> [UInt64] {
        let key = key(offset, count)
        let cost = count * 8
        if let words = cache.slices.withLock({ $0.value(for: key, cost: cost) }) { return words }
        let words = try file.readEntries(count: count, at: offset, mode)
        cache.slices.withLock { $0.insert(words, for: key, cost: cost) }
        return words
    }

    /// Fills `part` with the bytes from `start` on of a cluster of `size` bytes that is compressed.
    ///
    /// - Parameter unpack: fills a whole cluster; called when it is not known and the caller may wait.
    func read(
        _ part: inout MutableRawSpan, from start: Int, of cluster: CompressedCluster, size: Int, _ mode: ReadMode,
        unpack: (inout MutableRawSpan) throws(BlockError) -> Void
    ) throws(BlockError) {
        let key = key(cluster.offset.bytes, cluster.length)
        let wanted = start..<(start + part.byteCount)
        if let bytes = cache.clusters.withLock({ $0.value(for: key, cost: size) }) {
            bytes.withBytes { part.copy(from: $0.extracting(wanted)) }
            return
        }
        // Unpacking takes long enough to be worth another core.
        guard mode.mayWait else { throw .wouldBlock }
        if part.byteCount == size { return try unpack(&part) }
        var bytes = [UInt8](repeating: 0, count: size)
        try bytes.withMutableBytes { (bytes) throws(BlockError) in try unpack(&bytes) }
        cache.clusters.withLock { $0.insert(bytes, for: key, cost: size) }
        bytes.withBytes { part.copy(from: $0.extracting(wanted)) }
    }

    /// What a piece is known by.
    private func key(_ offset: UInt64, _ count: Int) -> ImageCache.Key {
        ImageCache.Key(owner: owner, offset: offset, count: count)
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
