// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// What one image keeps in an ``ImageCache``: slices of its tables, and clusters that have been unpacked.
///
/// Any thread may read. One at a time changes tables, or writes the changes to the file; others that want to wait for it,
/// which can take as long as the file takes. Readers never do.
final class CacheShare: Sendable {
    /// Holds the tables.
    let file: any BlockDevice
    private let cache: ImageCache
    private let owner: Int
    /// Held by who changes tables, while the file is read, written and flushed.
    private let changes = Locked(())

    /// The share of an image that has none yet.
    init(of cache: ImageCache, for file: any BlockDevice) {
        self.cache = cache
        self.file = file
        owner = cache.makeOwner()
    }

    // MARK: Reading

    /// A slice of a table: `count` words at `offset`, big-endian; read from the file when they are not known.
    func words(at offset: UInt64, count: Int, _ mode: ReadMode) throws(BlockError) -> [UInt64] {
        let key = key(offset, count)
        if let words = cache.slices.withLock({ $0.words(of: key) }) { return words }
        return try load(key, mode)
    }

    private func load(_ key: ImageCache.Key, _ mode: ReadMode) throws(BlockError) -> [UInt64] {
        // Somebody may change the slice, write it, and have it dropped while it is read here: then it is read again.
        while true {
            let changeCount = cache.slices.withLock { $0.changeCount }
            let words = try file.readEntries(count: key.count, at: key.offset, mode)
            let known = cache.slices.withLock { $0.keep(words, of: key, readAfter: changeCount) }
            if let known { return known }
        }
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

    // MARK: Changing; so far only tests do

    /// What a slice is known by.
    func key(_ offset: UInt64, _ count: Int) -> ImageCache.Key {
        ImageCache.Key(owner: owner, offset: offset, count: count)
    }

    /// Changes words of a slice, for readers at once: they see all of the new words, or all of the old ones. The file has
    /// them after ``writeChanges()``.
    ///
    /// What has been changed is written first when there is no more room, or when one of `earlier` waits for `slice`.
    /// - Parameters:
    ///   - slice: which overlaps no other slice.
    ///   - earlier: must be on disk before the slice is written, as far as they have been changed.
    ///   - body: must not come back here.
    /// - Throws: ``BlockError`` of the file; nothing has been changed then.
    func change(
        _ slice: ImageCache.Key, after earlier: [ImageCache.Key] = [], _ body: (inout [UInt64]) -> Void
    ) throws(BlockError) {
        try changes.withLock { (_) throws(BlockError) in
            if !cache.slices.withLock({ $0.canChange(slice, after: earlier) }) { try writeAll() }
            var words = try words(at: slice.offset, count: slice.count, .mayBlock)
            body(&words)
            let changed = words
            cache.slices.withLock { $0.change(slice, to: changed, after: earlier) }
        }
    }

    /// Writes all changed slices to the file, each after those that it waits for. They are on disk when this returns.
    ///
    /// - Throws: ``BlockError`` of the file. What is not known to be on disk counts as changed then, and is written again
    ///   the next time.
    func writeChanges() throws(BlockError) { try changes.withLock { (_) throws(BlockError) in try writeAll() } }

    /// Forgets what is known of a part of the file that is about to hold something else; changes in it are written before.
    ///
    /// Called when no table refers to this part any more, and all reads have ended that may have found it in one.
    /// - Throws: ``BlockError`` of the file; nothing has been forgotten then.
    func forget(_ range: ByteRange) throws(BlockError) {
        try changes.withLock { (_) throws(BlockError) in
            try writeAll()
            let owner = owner
            cache.slices.withLock { $0.forget { $0.owner == owner && $0.overlaps(range, unit: 8) } }
            cache.clusters.withLock {
                $0.removeAll(cost: { _, bytes in bytes.count }) { $0.owner == owner && $0.overlaps(range, unit: 1) }
            }
        }
    }

    private func writeAll() throws(BlockError) {
        let owner = owner
        while case let ready = cache.slices.withLock({ $0.ready(owner) }), !ready.isEmpty {
            for slice in ready { try write(slice.words, at: slice.key.offset) }
            // The system may put later writes on disk before these.
            try file.flush()
            let written = ready.map(\.key)
            cache.slices.withLock { $0.settle(written) }
        }
    }

    private func write(_ words: [UInt64], at offset: UInt64) throws(BlockError) {
        var bytes = [UInt8](repeating: 0, count: words.count * 8)
        try bytes.withMutableBytes { (bytes) throws(BlockError) in
            for (index, word) in words.enumerated() {
                bytes.storeBytes(of: word.bigEndian, toByteOffset: index * 8, as: UInt64.self)
            }
            try file.write(&bytes, at: offset, [])
        }
    }
}

extension ImageCache.Key {
    /// Is a part of the piece, whose length counts units of this many bytes, in `range`?
    fileprivate func overlaps(_ range: ByteRange, unit: Int) -> Bool {
        offset < range.end && range.offset < offset + UInt64(count * unit)
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
