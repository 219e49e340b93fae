// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The guest disk of a qcow image of version 1, decrypted when the image is encrypted.
///
/// Sectors are numbered by guest offset. Compressed clusters and what the backing file holds never pass the cipher.
/// Any number of threads may read.
public final class QcowImage: ReadOnlyDevice {
    /// The guest disk's length in bytes, whole sectors of 512.
    public let size: UInt64
    /// The cipher's sector, or 1 without a cipher.
    public let alignment: Int
    /// Of the file that likes most.
    public let depth: Int
    /// The image.
    let file: any BlockDevice
    /// Of the data; nil when it is not encrypted.
    let cipher: (any SectorCipher)?
    /// Behind unallocated clusters; of alignment 1.
    let backing: (any BlockDevice)?
    /// In bytes.
    let clusterSize: UInt64
    private let clusterBits: Int
    /// How the clusters are found.
    let tables: QcowTables
    private let decompressor = Decompressor(.deflate)
    private let cache: ImageCache
    private let owner: Int

    /// - Parameters:
    ///   - file: the image; of alignment 1.
    ///   - header: of `file`.
    ///   - cipher: of the data; nil exactly when the image is not encrypted.
    ///   - backing: the disk behind unallocated clusters, nil when there is none. It may be smaller or larger than this
    ///     disk: what it does not reach reads as zeros.
    public init(
        file: any BlockDevice, header: QcowHeader, cipher: (any SectorCipher)?, backing: (any BlockDevice)?,
        cache: ImageCache = ImageCache()
    ) {
        precondition((cipher != nil) == (header.encryption != .none))
        self.file = file
        self.cipher = cipher
        self.cache = cache
        self.owner = cache.makeOwner()
        self.backing = backing.map(AlignedDevice.lifting)
        self.size = header.virtualSize
        self.alignment = cipher?.sectorSize ?? 1
        self.depth = max(file.depth, backing?.depth ?? 1)
        self.clusterSize = header.clusterSize
        self.clusterBits = header.clusterBits
        self.tables = QcowTables(file: file, header: header, cache: cache)
    }

    /// One read of the file, or of the backing file, for each run of clusters that lie together in it; compressed
    /// clusters are unpacked only when the caller may wait.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "qcow")
        let end = offset + UInt64(buffer.byteCount)
        var position = offset
        while position < end {
            // Clusters are small: the runs of one slice are taken from it without looking it up again.
            let entries = try tables.entries(at: GuestOffset(position), mode)
            let known = min(end, position - position % clusterSize + UInt64(entries.count) * clusterSize)
            let first = position
            while position < known {
                try mode.look()
                let run = run(in: entries, first, at: GuestOffset(position), limit: known - position)
                let start = Int(position - offset)
                try buffer.withSlice(start..<(start + Int(run.length))) { (part) throws(BlockError) in
                    try read(run, into: &part, at: GuestOffset(position), mode)
                }
                position += run.length
            }
        }
    }

    /// Of the file, or of the backing file, where that is what will be read.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {
        guard range.fits(size) else { return }
        var position = range.offset
        while position < range.end, budget.look(),
            let entries = try? tables.entries(at: GuestOffset(position), .mayBlock)
        {
            let known = min(range.end, position - position % clusterSize + UInt64(entries.count) * clusterSize)
            let first = position
            while position < known {
                guard budget.look() else { return }
                let run = run(in: entries, first, at: GuestOffset(position), limit: known - position)
                switch run.entry {
                case .unallocated: backing?.prefetch(position, run.length, budget)
                case .data(let cluster): file.prefetch(cluster.bytes + position % clusterSize, run.length, budget)
                case .compressed(let cluster): file.prefetch(cluster.offset.bytes, UInt64(cluster.length), budget)
                case .invalid: break
                }
                position += run.length
            }
        }
    }

    /// Bytes that are the same kind of thing, and of which one read gives all.
    struct Run {
        /// Of the cluster that the run starts in.
        let entry: QcowEntry
        /// In bytes; more than 0.
        let length: UInt64
    }

    /// The run that starts with the byte `guest`, of which `entries` tell.
    ///
    /// - Parameters:
    ///   - first: a byte of the cluster that `entries` start with.
    ///   - limit: in bytes; `entries` reach at least as far.
    func run(
        in entries: QcowTables.Entries, _ first: UInt64, at guest: GuestOffset, limit: UInt64
    ) -> Run {
        guard let slice = entries.slice else { return Run(entry: .unallocated, length: limit) }
        let index = entries.first + Int(guest.bytes >> UInt64(clusterBits) - first >> UInt64(clusterBits))
        let inCluster = guest.bytes % clusterSize
        let raw = slice[index]
        var covered = clusterSize
        while covered - inCluster < limit,
            QcowEntry.continues(slice[index + Int(covered >> UInt64(clusterBits))], raw, after: covered)
        {
            covered += clusterSize
        }
        return Run(entry: QcowEntry(l2Entry: raw, clusterBits: clusterBits), length: min(limit, covered - inCluster))
    }

    private func read(
        _ run: Run, into part: inout MutableRawSpan, at guest: GuestOffset, _ mode: ReadMode
    ) throws(BlockError) {
        switch run.entry {
        case .unallocated: try readBacking(&part, guest, mode)
        case .data(let cluster): try readData(&part, guest, cluster, mode)
        case .compressed(let cluster): try readCompressed(&part, guest, cluster, mode)
        case .invalid(let reason): throw .damaged("qcow: guest offset \(guest.bytes): the L2 entry \(reason)")
        }
    }

    /// Beyond the end of the backing file, and without one, there are zeros.
    private func readBacking(
        _ part: inout MutableRawSpan, _ guest: GuestOffset, _ mode: ReadMode
    ) throws(BlockError) {
        var present = 0
        if let backing, guest.bytes < backing.size {
            present = Int(min(UInt64(part.byteCount), backing.size - guest.bytes))
            try part.withSlice(0..<present) { (stored) throws(BlockError) in
                try backing.read(into: &stored, at: guest.bytes, mode)
            }
        }
        let missing = present..<part.byteCount
        part.withSlice(missing) { $0.clear() }
    }

    /// Reads from clusters that lie together in the file, the first of them at `cluster`.
    ///
    /// What is missing of a cluster that the file ends in reads as zeros, as QEMU has it. A cluster that *starts* beyond
    /// the end was never written: the file has lost its tail.
    private func readData(
        _ part: inout MutableRawSpan, _ guest: GuestOffset, _ cluster: HostOffset, _ mode: ReadMode
    ) throws(BlockError) {
        // Entries of data are less than 2^63, so that neither sum leaves 64 bits.
        let host = cluster.bytes + guest.bytes % clusterSize
        let end = host + UInt64(part.byteCount)
        if end <= file.size {
            try file.read(into: &part, at: host, mode)
        } else {
            let lastCluster = end - 1 - (end - 1 - cluster.bytes) % clusterSize
            guard lastCluster < file.size else {
                throw .damaged(
                    "qcow: guest offset \(guest.bytes)+\(part.byteCount): the cluster at byte \(lastCluster) lies "
                        + "outside the file's \(file.size) bytes: the file is not complete")
            }
            let present = Int(max(file.size, host) - host)
            if present > 0 {
                try part.withSlice(0..<present) { (stored) throws(BlockError) in
                    try file.read(into: &stored, at: host, mode)
                }
            }
            let missing = present..<part.byteCount
            part.withSlice(missing) { $0.clear() }
        }
        try cipher?.decrypt(&part, firstSector: guest.bytes / 512)
    }

    private func readCompressed(
        _ part: inout MutableRawSpan, _ guest: GuestOffset, _ cluster: QcowEntry.CompressedCluster, _ mode: ReadMode
    ) throws(BlockError) {
        let key = ImageCache.Key(owner: owner, offset: cluster.offset.bytes, count: cluster.length)
        try cache.read(
            &part, from: Int(guest.bytes % clusterSize), ofCluster: key, size: Int(clusterSize), mode
        ) { (output) throws(BlockError) in try unpack(cluster, into: &output, guest) }
    }

    private func unpack(
        _ cluster: QcowEntry.CompressedCluster, into output: inout MutableRawSpan, _ guest: GuestOffset
    ) throws(BlockError) {
        let place =
            "qcow: guest offset \(guest.bytes): the compressed cluster at byte \(cluster.offset.bytes)+\(cluster.length)"
        // The length is exact, so that all of it must be there. The offset is less than 2^54.
        guard cluster.offset.bytes + UInt64(cluster.length) <= file.size else {
            throw .damaged("\(place) lies outside the file's \(file.size) bytes: the file is not complete")
        }
        let packed = try file.read(count: cluster.length, at: cluster.offset.bytes)
        let fault = packed.withBytes { decompressor.decompress($0, into: &output) }
        if let fault { throw .damaged("\(place): \(fault)") }
    }
}
