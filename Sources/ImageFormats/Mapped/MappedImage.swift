// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The disk of an image whose clusters are found by a mapping: what the devices of all such formats have in common.
///
/// Compressed, zero and unallocated clusters never pass the cipher: no program encrypts them. What is unallocated is read
/// from the backing device, which has its own cipher.
///
/// This is no device, but what a device of one format, a class that is not generic, hands its calls to: only then are the
/// functions below compiled for the mapping, and not looked up while they run.
struct MappedImage<Mapping: ImageMapping>: Sendable {
    /// How the clusters of the disk are found.
    let mapping: Mapping
    /// Holds the tables and the compressed clusters.
    let file: any BlockDevice
    /// Holds the other clusters; `file` itself when the format has no data file.
    let dataFile: any BlockDevice
    /// Behind what is unallocated; of alignment 1.
    let backing: (any BlockDevice)?
    /// Of the data; nil when it is not encrypted.
    let cipher: (any SectorCipher)?
    /// What numbers sectors for the cipher.
    let numbering: SectorNumbering
    /// Of ``mapping``.
    let tables: MappedTables<Mapping>
    /// Of ``file``.
    let share: CacheShare
    private let compressed: CompressedClusters
    /// The cipher's sector, or 1 without a cipher.
    let alignment: Int
    /// Of the file that likes most.
    let depth: Int

    /// What a sector's number, in units of 512 bytes, is counted by.
    enum SectorNumbering {
        /// The offset on the disk.
        case guest
        /// The offset in the file.
        case host
    }

    /// - Parameters:
    ///   - file: the image; of alignment 1.
    ///   - dataFile: holds the clusters when another file does.
    ///   - backing: the disk behind what is unallocated. What it does not reach reads as zeros, and so does everything
    ///     without it.
    ///   - cipher: of the data; nil when it is not encrypted.
    ///   - cache: shared by images that are open together.
    init(
        _ mapping: Mapping, file: any BlockDevice, dataFile: (any BlockDevice)? = nil, backing: (any BlockDevice)?,
        cipher: (any SectorCipher)?, numberedBy numbering: SectorNumbering, compression: Qcow2Header.Compression,
        cache: ImageCache
    ) {
        share = CacheShare(of: cache, for: file)
        self.mapping = mapping
        self.file = file
        self.dataFile = dataFile ?? file
        self.backing = backing.map(AlignedDevice.lifting)
        self.cipher = cipher
        self.numbering = numbering
        self.tables = MappedTables(mapping, share)
        self.compressed = CompressedClusters(
            formatName: Mapping.formatName, clusterSize: Int(mapping.clusterSize), compression, share)
        self.alignment = cipher?.sectorSize ?? 1
        self.depth = max(file.depth, self.dataFile.depth, self.backing?.depth ?? 1)
    }

    /// One read of a file for each run of clusters that lie together in it; compressed clusters are unpacked only when
    /// the caller may wait.
    ///
    /// - Parameters:
    ///   - buffer: of a length that fits the disk and the alignment.
    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        let end = offset + UInt64(buffer.byteCount)
        var runs = MappedRuns(of: tables, from: offset)
        while runs.position < end {
            try mode.look()
            let guest = GuestOffset(runs.position)
            let run = try runs.next(limit: end - guest.bytes, mode)
            let start = Int(guest.bytes - offset)
            try buffer.withSlice(start..<(start + Int(run.length))) { (part) throws(BlockError) in
                switch run.cluster {
                case .unallocated: try readBacking(&part, guest, mode)
                case .zero: part.clear()
                case .data(let host): try readData(&part, guest, host, mode)
                case .compressed(let cluster): try compressed.read(&part, of: cluster, at: guest, mode)
                case .invalid(let reason):
                    throw .damaged("\(Mapping.formatName): guest offset \(guest.bytes): the L2 entry \(reason)")
                }
            }
        }
    }

    /// Of the file, or of the backing device, where that is what will be read.
    func prefetch(_ range: ByteRange, _ budget: Budget) {
        guard range.fits(mapping.virtualSize) else { return }
        var runs = MappedRuns(of: tables, from: range.offset)
        while runs.position < range.end, budget.look() {
            let position = runs.position
            guard let run = try? runs.next(limit: range.end - position, .mayBlock) else { return }
            switch run.cluster {
            case .unallocated: backing?.prefetch(position, run.length, budget)
            case .data(let host): dataFile.prefetch(host.bytes, run.length, budget)
            case .compressed(let cluster): file.prefetch(cluster.offset.bytes, UInt64(cluster.length), budget)
            case .zero, .invalid: break
            }
        }
    }

    /// Beyond the end of the backing device, and without one, there are zeros.
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

    private func readData(
        _ part: inout MutableRawSpan, _ guest: GuestOffset, _ host: HostOffset, _ mode: ReadMode
    ) throws(BlockError) {
        // Places of data are less than 2^63, so that the sum does not leave 64 bits.
        if host.bytes + UInt64(part.byteCount) <= dataFile.size {
            try dataFile.read(into: &part, at: host.bytes, mode)
        } else {
            try readEnd(&part, guest, host, mode)
        }
        guard let cipher else { return }
        let place = numbering == .host ? host.bytes : guest.bytes
        try cipher.decrypt(&part, firstSector: place / 512)
    }

    /// Reads from clusters that lie together in the file, from the byte `host` on, and reach beyond its end.
    ///
    /// QEMU does not always write the end of the last cluster of a file, and reads what is missing as zeros. A cluster
    /// that *starts* beyond the end was never written: the file has lost its tail. So has one with an encrypted cluster that is
    /// not complete: QEMU encrypts whole clusters, and zeros would decrypt to noise.
    private func readEnd(
        _ part: inout MutableRawSpan, _ guest: GuestOffset, _ host: HostOffset, _ mode: ReadMode
    ) throws(BlockError) {
        let end = host.bytes + UInt64(part.byteCount)
        let firstCluster = host.bytes - guest.bytes % mapping.clusterSize
        let lastCluster = end - 1 - (end - 1 - firstCluster) % mapping.clusterSize
        guard lastCluster < dataFile.size else {
            throw .damaged(
                "\(Mapping.formatName): guest offset \(guest.bytes)+\(part.byteCount): the cluster at byte \(lastCluster) "
                    + "lies outside the file's \(dataFile.size) bytes: the file is not complete")
        }
        guard cipher == nil else {
            throw .damaged(
                "\(Mapping.formatName): guest offset \(guest.bytes)+\(part.byteCount): what the encrypted cluster at byte "
                    + "\(lastCluster) has there lies in part outside the file's \(dataFile.size) bytes: the file is not complete"
            )
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
}
