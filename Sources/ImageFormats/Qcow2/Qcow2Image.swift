// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A disk of a qcow2 image, the active one or that of an internal snapshot, decrypted when the image is encrypted.
///
/// Sectors of a legacy AES image are numbered by guest offset, those of a LUKS image by host offset, counted from the first
/// byte of the file. Compressed, zero and unallocated clusters never pass the
/// cipher: no program that writes qcow2 encrypts them. What is unallocated is read from the backing device, which has its
/// own cipher.
public final class Qcow2Image: ReadOnlyDevice {
    /// The guest disk's length in bytes, whole sectors of 512.
    public let size: UInt64
    /// The cipher's sector, or 1 without a cipher.
    public let alignment: Int
    /// Of the file that likes most.
    public let depth: Int
    private let file: any BlockDevice
    /// Holds the clusters, compressed ones apart; the image itself when it has no data file.
    let dataFile: any BlockDevice
    /// Behind what is unallocated; of alignment 1.
    let backing: (any BlockDevice)?
    /// How the clusters of the disk are found.
    let mapping: Qcow2Mapping
    /// Of the data; nil when it is not encrypted.
    let cipher: (any SectorCipher)?
    private let numbersByHost: Bool
    /// Of ``mapping``.
    let tables: Qcow2Tables
    private let decompressor: Decompressor
    private let cache: ImageCache
    private let owner: Int

    /// - Parameters:
    ///   - header: of `file`, and accepted by ``Qcow2Support``.
    ///   - mapping: which disk; nil: the active one.
    ///   - cipher: of the data; nil exactly when the image is not encrypted.
    ///   - dataFile: holds the clusters when the header says that another file does.
    ///   - backing: the disk behind what is unallocated. What it does not reach reads as zeros, and so does everything
    ///     without it.
    ///   - cache: shared by images that are open together.
    public init(
        file: any BlockDevice, header: Qcow2Header, mapping: Qcow2Mapping? = nil, cipher: (any SectorCipher)?,
        dataFile: (any BlockDevice)? = nil, backing: (any BlockDevice)? = nil, cache: ImageCache = ImageCache()
    ) {
        precondition((cipher != nil) == (header.encryption != .none))
        self.file = file
        self.dataFile = dataFile ?? file
        self.backing = backing.map(AlignedDevice.lifting)
        self.mapping = mapping ?? header.mapping
        self.cipher = cipher
        self.numbersByHost = header.encryption == .luks
        self.size = self.mapping.virtualSize
        self.alignment = cipher?.sectorSize ?? 1
        self.depth = max(self.dataFile.depth, self.backing?.depth ?? 1)
        self.tables = Qcow2Tables(file: file, mapping: self.mapping, cache: cache)
        self.decompressor = Decompressor(header.compression)
        self.cache = cache
        self.owner = cache.makeOwner()
    }

    /// One read of the file for each run of clusters that lie together in it; compressed clusters are unpacked only when
    /// the caller may wait.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "qcow2")
        var done = 0
        while done < buffer.byteCount {
            try mode.look()
            let guest = GuestOffset(offset + UInt64(done))
            let run = try run(at: guest, limit: UInt64(buffer.byteCount - done), mode)
            let length = Int(run.length)
            try buffer.withSlice(done..<(done + length)) { (part) throws(BlockError) in
                switch run.entry {
                case .unallocated: try readBacking(&part, guest, mode)
                case .zero: part.clear()
                case .data(let host): try readData(&part, guest, host, mode)
                case .compressed(let cluster): try readCompressed(&part, guest, cluster, mode)
                case .invalid(let reason): throw .damaged("qcow2: guest offset \(guest.bytes): the L2 entry \(reason)")
                }
            }
            done += length
        }
    }

    /// Of the file, or of the backing device, where that is what will be read.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {
        guard range.fits(size) else { return }
        var position = range.offset
        while position < range.end, budget.look(),
            let run = try? run(at: GuestOffset(position), limit: range.end - position, .mayBlock)
        {
            switch run.entry {
            case .unallocated: backing?.prefetch(position, run.length, budget)
            case .data(let host): dataFile.prefetch(host.bytes, run.length, budget)
            case .compressed(let cluster): file.prefetch(cluster.offset.bytes, UInt64(cluster.length), budget)
            case .zero, .invalid: break
            }
            position += run.length
        }
    }

    /// What is at a place, and how many bytes from there on are the same or follow it in the file.
    typealias Run = (entry: Qcow2Entry, length: UInt64)

    /// The run from `guest` on, of `limit` bytes at most.
    func run(at guest: GuestOffset, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Run {
        let entries = try tables.entries(at: guest, mode)
        let unitSize = mapping.unitSize
        let inUnit = guest.bytes % unitSize
        guard let slice = entries.slice else {
            return (
                .unallocated,
                min(limit, UInt64(entries.count) << UInt64(mapping.clusterBits) - guest.bytes % mapping.clusterSize)
            )
        }
        // The units of the slice, counted from the start of the first cluster.
        let unitsPerCluster = mapping.clusterBits - mapping.unitBits
        let firstUnit = Int((guest.bytes % mapping.clusterSize) >> UInt64(mapping.unitBits))
        let unitCount = entries.count << unitsPerCluster
        let first = decode(slice, entries.first, unit: firstUnit)
        var unit = firstUnit + 1
        while unit < unitCount, UInt64(unit - firstUnit) * unitSize - inUnit < limit,
            Self.continues(
                decode(slice, entries.first, unit: unit), first, after: UInt64(unit - firstUnit) * unitSize)
        {
            unit += 1
        }
        let length = min(limit, UInt64(unit - firstUnit) * unitSize - inUnit)
        switch first {
        case .data(let host): return (.data(HostOffset(host.bytes + inUnit)), length)
        case .compressed:
            // The whole cluster is one piece, and the next one another.
            return (first, min(limit, mapping.clusterSize - guest.bytes % mapping.clusterSize))
        case .unallocated, .zero, .invalid: return (first, length)
        }
    }

    /// What a unit is, counted from the cluster whose entry starts at `word` of the slice.
    @inline(__always)
    private func decode(_ slice: Qcow2Tables.Slice, _ word: Int, unit: Int) -> Qcow2Entry {
        guard mapping.hasSubclusters else { return Qcow2Entry(l2Entry: slice[word + unit], mapping) }
        let entry = word + unit / 32 * 2
        return Qcow2Entry(l2Entry: slice[entry], bitmap: slice[entry + 1], subcluster: unit & 31, mapping)
    }

    /// Can a unit be read together with `first`, `distance` bytes before it?
    private static func continues(_ next: Qcow2Entry, _ first: Qcow2Entry, after distance: UInt64) -> Bool {
        switch (first, next) {
        case (.unallocated, .unallocated), (.zero, .zero): true
        case (.data(let start), .data(let host)): host.bytes == start.bytes + distance
        default: false
        }
    }

    private func readBacking(
        _ part: inout MutableRawSpan, _ guest: GuestOffset, _ mode: ReadMode
    ) throws(BlockError) {
        let size = backing?.size ?? 0
        let present = Int(min(UInt64(part.byteCount), size - min(size, guest.bytes)))
        if present > 0, let backing {
            try part.withSlice(0..<present) { (stored) throws(BlockError) in
                try backing.read(into: &stored, at: guest.bytes, mode)
            }
        }
        let missing = present..<part.byteCount
        part.withSlice(missing) { $0.clear() }
    }

    private func readData(
        _ part: inout MutableRawSpan, _ guest: GuestOffset, _ host: HostOffset, _ mode: ReadMode
    ) throws(BlockError) {
        try readHost(&part, guest, host, mode)
        guard let cipher else { return }
        try cipher.decrypt(&part, firstSector: (numbersByHost ? host.bytes : guest.bytes) / 512)
    }

    /// Reads whole or partial clusters from the file.
    ///
    /// QEMU does not always write the end of the last cluster of a file, and reads what is missing as zeros. A cluster
    /// that *starts* beyond the end was never written: the file has lost its tail.
    private func readHost(
        _ part: inout MutableRawSpan, _ guest: GuestOffset, _ host: HostOffset, _ mode: ReadMode
    ) throws(BlockError) {
        let end = host.bytes + UInt64(part.byteCount)
        guard end > dataFile.size else { return try dataFile.read(into: &part, at: host.bytes, mode) }
        let lastCluster = (end - 1) / mapping.clusterSize * mapping.clusterSize
        guard lastCluster < dataFile.size else {
            throw .damaged(
                "qcow2: guest offset \(guest.bytes)+\(part.byteCount): the cluster at byte \(lastCluster) lies outside "
                    + "the file's \(dataFile.size) bytes: the file is not complete")
        }
        let present = Int(max(dataFile.size, host.bytes) - host.bytes)
        if present > 0 {
            try part.withSlice(0..<present) { (stored) throws(BlockError) in
                try dataFile.read(into: &stored, at: host.bytes, mode)
            }
        }
        let missing = present..<part.byteCount
        part.withSlice(missing) { $0.clear() }
    }

    private func readCompressed(
        _ part: inout MutableRawSpan, _ guest: GuestOffset, _ cluster: Qcow2Entry.CompressedCluster, _ mode: ReadMode
    ) throws(BlockError) {
        let key = ImageCache.Key(owner: owner, offset: cluster.offset.bytes, count: cluster.length)
        try cache.read(
            &part, from: Int(guest.bytes % mapping.clusterSize), ofCluster: key, size: Int(mapping.clusterSize), mode
        ) { (output) throws(BlockError) in try unpack(cluster, into: &output, guest) }
    }

    private func unpack(
        _ cluster: Qcow2Entry.CompressedCluster, into output: inout MutableRawSpan, _ guest: GuestOffset
    ) throws(BlockError) {
        let place = "qcow2: guest offset \(guest.bytes): the compressed cluster at byte \(cluster.offset.bytes)"
        guard cluster.offset.bytes < file.size else {
            throw .damaged("\(place) lies outside the file's \(file.size) bytes: the file is not complete")
        }
        // The length is rounded up to whole sectors; the file may end before that.
        let length = Int(min(UInt64(cluster.length), file.size - cluster.offset.bytes))
        let packed = try file.read(count: length, at: cluster.offset.bytes)
        let fault = packed.withBytes { decompressor.decompress($0, into: &output) }
        if let fault { throw .damaged("\(place)+\(length): \(fault)") }
    }
}
