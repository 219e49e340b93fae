// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Synchronization

/// Writes to the active disk of a qcow2 image.
///
/// Bytes that are stored in a cluster of their own are replaced in place: that takes a look-up and no lock, and any number of
/// threads do it side by side. Everything else takes the range of clusters that it changes, then, while no data is read or
/// written, the lock of the tables. Data is in its place before an entry refers to it.
/// Decision 36 has the order in which all this reaches the disk.
final class Qcow2Writer: Sendable {
    /// The disk as it is read.
    let image: MappedImage<Qcow2Mapping>
    /// Who is between a look-up and the read or write that follows; readers of the disk are, too.
    let epochs = AccessEpochs()
    private let dataFile: any GrowableDevice
    /// Of clusters, by their numbers on the disk, whose entries somebody is about to change.
    private let ranges = RangeLock()
    private let metadata: Locked<Qcow2Metadata>
    private let isPrepared = Atomic<Bool>(false)
    /// Where data must not be, whatever tables say; nil when it is in another file.
    private let guarded: Published<Qcow2MetadataClusters.Map>?

    var mapping: Qcow2Mapping { image.mapping }

    /// - Parameters:
    ///   - image: of `header`, over `file` and `dataFile`.
    ///   - dataFile: holds the clusters; `file` itself when there is no data file.
    /// - Throws: as ``Qcow2MetadataSurvey``.
    init(
        _ image: MappedImage<Qcow2Mapping>, _ header: Qcow2Header, file: any GrowableDevice,
        dataFile: any GrowableDevice
    ) throws(FormatError) {
        self.image = image
        self.dataFile = dataFile
        let clusters = Qcow2MetadataClusters(try Qcow2MetadataSurvey(file, header), epochs)
        guarded = header.features.contains(.externalDataFile) ? nil : clusters.published
        metadata = Locked(Qcow2Metadata(header, image, file: file, clusters, epochs))
    }

    // MARK: Verbs

    /// In place where that is possible, else in new clusters.
    func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        try prepare()
        let count = bytes.byteCount
        var done = 0
        while done < count {
            let position = GuestOffset(offset + UInt64(done))
            done += try bytes.withSlice(done..<count) { (rest) throws(BlockError) in
                if let written = try overwrite(&rest, at: position) { return written }
                let clusters = clusters(position.bytes, UInt64(rest.byteCount))
                ranges.acquire(clusters)
                defer { ranges.release(clusters) }
                return try rewrite(&rest, at: position)
            }
        }
        if options.contains(.durable) { try flush() }
    }

    /// Changes entries where that makes zeros, and writes zeros elsewhere.
    func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        try prepare()
        let clusters = clusters(range.offset, range.length)
        ranges.acquire(clusters)
        defer { ranges.release(clusters) }
        try Qcow2Zeroing(self, options).zero(range)
        if options.contains(.durable) { try flush() }
    }

    /// Gives up whole clusters.
    func discard(_ range: ByteRange) throws(BlockError) {
        try prepare()
        let clusters = clusters(range.offset, range.length)
        ranges.acquire(clusters)
        defer { ranges.release(clusters) }
        try Qcow2Zeroing(self, .mayDiscard).discard(range)
    }

    /// Brings data and tables to disk. What goes no further than clusters that are there costs one flush of the file.
    func flush() throws(BlockError) {
        guard image.share.hasChanges else { return try dataFile.flush() }
        try metadata.withLock { (metadata) throws(BlockError) in try metadata.flush() }
    }

    private func prepare() throws(BlockError) {
        guard !isPrepared.load(ordering: .acquiring) else { return }
        try metadata.withLock { (metadata) throws(BlockError) in
            guard !isPrepared.load(ordering: .relaxed) else { return }
            try metadata.prepare()
            isPrepared.store(true, ordering: .releasing)
        }
    }

    private func clusters(_ offset: UInt64, _ length: UInt64) -> Range<UInt64> {
        let size = mapping.clusterSize
        return offset / size..<(offset + length).units(of: size)
    }

    // MARK: In place

    /// Writes the first bytes, as far as they have clusters of their own that lie together.
    /// - Returns: how many; nil when the first has none.
    private func overwrite(_ bytes: inout MutableRawSpan, at guest: GuestOffset) throws(BlockError) -> Int? {
        // Until then, the clusters are not used for anything else.
        let epoch = epochs.enter()
        defer { epochs.leave(epoch) }
        let entries = try image.tables.entries(at: guest, .mayBlock)
        guard let words = entries.words else { return nil }
        let inCluster = guest.bytes % mapping.clusterSize
        let known = UInt64(entries.count) << UInt64(mapping.clusterBits) - inCluster
        guard
            let run = mapping.ownRun(
                in: words, from: entries.first, at: guest, limit: min(known, UInt64(bytes.byteCount)))
        else { return nil }
        try bytes.withSlice(0..<Int(run.length)) { (part) throws(BlockError) in
            try store(&part, of: guest, at: run.host)
        }
        return Int(run.length)
    }

    /// Encrypts bytes of the disk in place, and writes them to where they belong.
    func store(_ bytes: inout MutableRawSpan, of guest: GuestOffset, at host: HostOffset) throws(BlockError) {
        let end = host.bytes + UInt64(bytes.byteCount)
        try refuseMetadata(host.bytes..<end, guest)
        if let cipher = image.cipher {
            try cipher.encrypt(&bytes, firstSector: (image.numbering == .host ? host.bytes : guest.bytes) / 512)
        }
        // The end of the last cluster of a file may be missing, and a data file is as long as what has been written.
        if end > dataFile.size { try dataFile.grow(to: end) }
        try dataFile.write(&bytes, at: host.bytes, [])
    }

    private func refuseMetadata(_ place: Range<UInt64>, _ guest: GuestOffset) throws(BlockError) {
        guard let guarded else { return }
        let epoch = epochs.enter()
        defer { epochs.leave(epoch) }
        let clusters = place.lowerBound / mapping.clusterSize..<place.upperBound.units(of: mapping.clusterSize)
        if let cluster = guarded.use({ $0.first(in: clusters) }) {
            throw Qcow2MetadataClusters.damage(
                at: cluster * mapping.clusterSize, "the L2 entry of guest offset \(guest.bytes) leads there")
        }
    }

    // MARK: With changes of entries; the caller has the range of clusters

    /// Writes the first bytes, as far as they are in the same situation.
    /// - Returns: how many.
    func rewrite(_ bytes: inout MutableRawSpan, at guest: GuestOffset) throws(BlockError) -> Int {
        // Somebody else may have made a place for them meanwhile.
        if let written = try overwrite(&bytes, at: guest) { return written }
        return try Qcow2CopyOnWrite(self).write(&bytes, at: guest)
    }

    /// What the entries say of the clusters from `first` on, up to the end of a slice of an L2 table.
    func states(from first: GuestOffset, limit: Int) throws(BlockError) -> [Qcow2ClusterState] {
        let epoch = epochs.enter()
        defer { epochs.leave(epoch) }
        let entries = try image.tables.entries(at: first, .mayBlock)
        guard let words = entries.words else {
            let perSlice = mapping.sliceWords >> mapping.entryWordBits
            let inSlice = image.tables.l2Index(first) % perSlice
            return Array(repeating: .unallocated, count: min(limit, perSlice - inSlice))
        }
        var states: [Qcow2ClusterState] = []
        for index in 0..<min(limit, entries.count) {
            let place = entries.first + index << mapping.entryWordBits
            let guest = GuestOffset(first.bytes + UInt64(index) << UInt64(mapping.clusterBits))
            do throws(BlockError) {
                states.append(
                    try Qcow2ClusterState(
                        word: words[place], bitmap: mapping.hasSubclusters ? words[place + 1] : 0, mapping, at: guest))
            } catch {
                // What comes before it is not the worse for it.
                guard !states.isEmpty else { throw error }
                break
            }
        }
        return states
    }

    /// For how many bytes from a cluster on there is no L2 table; nil when there is one.
    func missingLength(from first: GuestOffset) throws(BlockError) -> UInt64? {
        let epoch = epochs.enter()
        defer { epochs.leave(epoch) }
        let entries = try image.tables.entries(at: first, .mayBlock)
        return entries.words == nil ? UInt64(entries.count) << UInt64(mapping.clusterBits) : nil
    }

    /// Is there something behind a cluster that is not allocated?
    func hasBacking(_ cluster: GuestOffset) -> Bool { image.backing.map { cluster.bytes < $0.size } ?? false }

    /// Reads the disk; behind its end, a cluster has zeros.
    func readOld(_ bytes: inout MutableRawSpan, at offset: UInt64) throws(BlockError) {
        let present = Int(min(UInt64(bytes.byteCount), mapping.virtualSize - min(offset, mapping.virtualSize)))
        guard present > 0 else { return }
        let epoch = epochs.enter()
        defer { epochs.leave(epoch) }
        try bytes.withSlice(0..<present) { (old) throws(BlockError) in try image.read(into: &old, at: offset, .mayBlock)
        }
    }

    /// As ``Qcow2Metadata/allocate(_:at:)``.
    func allocate(_ count: Int, at guest: GuestOffset) throws(BlockError) -> Qcow2Allocator.Run {
        try metadata.withLock { (metadata) throws(BlockError) in try metadata.allocate(count, at: guest) }
    }

    /// As ``Qcow2Metadata/abandon(_:)``.
    func abandon(_ run: Qcow2Allocator.Run) { metadata.withLock { $0.abandon(run.clusters) } }

    /// As ``Qcow2Metadata/replace(_:by:at:isDiscard:)``.
    func replace(
        _ old: [Qcow2ClusterState], by new: [Qcow2ClusterState], at guest: GuestOffset, isDiscard: Bool = false
    ) throws(BlockError) {
        try metadata.withLock { (metadata) throws(BlockError) in
            try metadata.replace(old, by: new, at: guest, isDiscard: isDiscard)
        }
    }

    /// Makes zeros of a part of the data file.
    func zeroData(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        guard range.offset < dataFile.size,
            let stored = ByteRange(offset: range.offset, length: min(range.end, dataFile.size) - range.offset)
        else { return }
        try dataFile.zero(stored, options)
    }
}
