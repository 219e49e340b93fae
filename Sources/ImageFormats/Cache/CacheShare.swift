// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// What one image keeps in an ``ImageCache``: slices of its tables, and clusters that have been unpacked.
///
/// Any thread may read, and never waits for one that writes. One thread at a time changes tables, or writes the changes to
/// the file: see ``Qcow2TableChanges``.
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

    // MARK: Changing

    /// What a slice is known by.
    func key(_ offset: UInt64, _ count: Int) -> ImageCache.Key {
        ImageCache.Key(owner: owner, offset: offset, count: count)
    }

    /// Is any slice not as the file has it?
    var hasChanges: Bool {
        let owner = owner
        return cache.slices.withLock { $0.hasChanges(owner) }
    }

    /// Is there room for a change of this slice? Otherwise what has been changed is written first.
    func canChange(_ slice: ImageCache.Key) -> Bool { cache.slices.withLock { $0.canChange(slice) } }

    /// Replaces the words of a slice, for readers at once: they see all of the new words, or all of the old ones. The file
    /// has them when the step has been written.
    ///
    /// - Parameter slice: overlaps no other slice, and ``canChange(_:)``.
    func change(_ slice: ImageCache.Key, to words: [UInt64], _ step: ChangedSlices.Step) {
        cache.slices.withLock { $0.change(slice, to: words, step) }
    }

    /// Writes the changed slices of a step. They are on disk when the file has been flushed; ``settle(_:)`` is told then.
    ///
    /// - Throws: ``BlockError`` of the file. All of them count as changed still, and are written again the next time.
    func write(_ step: ChangedSlices.Step) throws(BlockError) -> [ImageCache.Key] {
        let owner = owner
        let ready = cache.slices.withLock { $0.ready(owner, for: step) }
        for slice in ready { try file.writeEntries(slice.words, at: slice.key.offset) }
        return ready.map(\.key)
    }

    /// Slices that were written, and not changed since, are on disk.
    func settle(_ slices: [ImageCache.Key]) {
        guard !slices.isEmpty else { return }
        cache.slices.withLock { $0.settle(slices) }
    }

    /// Forgets what is known of parts of the file that are about to hold something else, but for slices that are changed.
    ///
    /// Called when no table refers to these parts any more, and all reads have ended that may have found them in one.
    func forget(_ places: [ByteRange]) {
        let owner = owner
        cache.slices.withLock { slices in
            slices.forget { key in key.owner == owner && places.contains { key.overlaps($0, unit: 8) } }
        }
        cache.clusters.withLock { clusters in
            clusters.removeAll(cost: { _, bytes in bytes.count }) { key in
                key.owner == owner && places.contains { key.overlaps($0, unit: 1) }
            }
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

    /// Writes entries of a table of qcow or qcow2.
    func writeEntries(_ words: [UInt64], at offset: UInt64) throws(BlockError) {
        var bytes = [UInt8](repeating: 0, count: words.count * 8)
        try bytes.withMutableBytes { (bytes) throws(BlockError) in
            for (index, word) in words.enumerated() {
                bytes.storeBytes(of: word.bigEndian, toByteOffset: index * 8, as: UInt64.self)
            }
            try write(&bytes, at: offset, [])
        }
    }
}
