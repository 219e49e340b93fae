// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A disk of a qcow2 image, the active one or that of an internal snapshot, decrypted when the image is encrypted.
///
/// Sectors of a legacy AES image are numbered by guest offset, those of a LUKS image by host offset, counted from the first
/// byte of the file. Compressed, zero and unallocated clusters never pass the
/// cipher: no program that writes qcow2 encrypts them. What is unallocated is read from the backing device, which has its
/// own cipher, and is never written to.
public final class Qcow2Image: BlockDevice {
    private let image: MappedImage<Qcow2Mapping>
    /// Nil: the disk is only read.
    let writer: Qcow2Writer?
    /// The guest disk's length in bytes, whole sectors of 512.
    public var size: UInt64 { image.mapping.virtualSize }
    /// Was it opened for writing?
    public var isWritable: Bool { writer != nil }
    /// The cipher's sector, or 1 without a cipher.
    public var alignment: Int { image.alignment }
    /// Of the file that likes most.
    public var depth: Int { image.depth }

    /// A disk that is only read.
    ///
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
        image = MappedImage(
            mapping ?? header.mapping, file: file, dataFile: dataFile, backing: backing, cipher: cipher,
            numberedBy: header.encryption == .luks ? .host : .guest, compression: header.compression, cache: cache)
        writer = nil
    }

    /// The active disk, to be written to. Nobody else uses the files meanwhile, but for disks of snapshots, which do not change.
    ///
    /// - Parameters:
    ///   - file: writable, and as long as can be; see ``GrowableDevice``. What is written must be durable there when a flush
    ///     succeeds; a flush that has failed never succeeds for the same bytes.
    ///   - header: as the file has it, and accepted by ``MappedCensus/checkL1(file:header:)``.
    ///   - dataFile: writable; holds the clusters when the header says that another file does.
    ///   - cipher, backing, cache: as for a disk that is only read.
    /// - Throws: ``FormatError`` when ``Qcow2Support/checkWritable(_:)`` refuses the image, when tables that are written to
    ///   overlap others, or when there are too many of them.
    public init(
        writing file: any GrowableDevice, header: Qcow2Header, cipher: (any SectorCipher)?,
        dataFile: (any GrowableDevice)? = nil, backing: (any BlockDevice)? = nil, cache: ImageCache = ImageCache()
    ) throws(FormatError) {
        precondition((cipher != nil) == (header.encryption != .none))
        precondition((dataFile != nil) == header.features.contains(.externalDataFile))
        try Qcow2Support.checkWritable(header)
        image = MappedImage(
            header.mapping, file: file, dataFile: dataFile, backing: backing, cipher: cipher,
            numberedBy: header.encryption == .luks ? .host : .guest, compression: header.compression, cache: cache)
        writer = try Qcow2Writer(image, header, file: file, dataFile: dataFile ?? file)
    }

    // MARK: Reading

    /// One read of a file for each run of clusters that lie together in it; compressed clusters are unpacked only when
    /// the caller may wait.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: Qcow2Mapping.formatName)
        guard let writer else { return try image.read(into: &buffer, at: offset, mode) }
        let epoch = writer.epochs.enter()
        defer { writer.epochs.leave(epoch) }
        try image.read(into: &buffer, at: offset, mode)
    }

    /// As the tables, the backing device, and the holes of the file have it.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard let writer else { return try image.extent(at: offset, limit: limit, mode) }
        let epoch = writer.epochs.enter()
        defer { writer.epochs.leave(epoch) }
        return try image.extent(at: offset, limit: limit, mode)
    }

    /// Of the file, or of the backing device, where that is what will be read.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {
        let epoch = writer?.epochs.enter()
        image.prefetch(range, budget)
        if let epoch { writer?.epochs.leave(epoch) }
    }

    // MARK: Writing

    /// One write of a file for each run of clusters that lie together in it and belong to this disk alone; others are
    /// allocated.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        guard let writer else { throw .readOnly }
        try checkBounds(bytes.byteCount, at: offset, layer: Qcow2Mapping.formatName)
        try writer.write(&bytes, at: offset, options)
    }

    /// By marks in the tables for all but the ends of the range; version 2 has none, so that zeros are written behind which
    /// there is a backing device, and, when the space must stay, in clusters that have some.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        guard let writer else { throw .readOnly }
        try checkBounds(range, layer: Qcow2Mapping.formatName)
        guard range.length > 0 else { return }
        try writer.zero(range, options)
    }

    /// Whole clusters, of which the space is given back when the tables that gave them up are on disk. They read as zeros then,
    /// or as before.
    public func discard(_ range: ByteRange) throws(BlockError) {
        guard let writer else { throw .readOnly }
        try checkBounds(range, layer: Qcow2Mapping.formatName)
        guard range.length > 0 else { return }
        try writer.discard(range)
    }

    /// Data, then the tables that refer to it: two flushes of the file when tables have been changed, else one.
    public func flush() throws(BlockError) { try writer?.flush() }
}
