// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A disk of a qcow2 image, the active one or that of an internal snapshot, decrypted when the image is encrypted.
///
/// Sectors of a legacy AES image are numbered by guest offset, those of a LUKS image by host offset, counted from the first
/// byte of the file. Compressed, zero and unallocated clusters never pass the
/// cipher: no program that writes qcow2 encrypts them. What is unallocated is read from the backing device, which has its
/// own cipher.
public final class Qcow2Image: ReadOnlyDevice {
    private let image: MappedImage<Qcow2Mapping>
    /// The guest disk's length in bytes, whole sectors of 512.
    public var size: UInt64 { image.mapping.virtualSize }
    /// The cipher's sector, or 1 without a cipher.
    public var alignment: Int { image.alignment }
    /// Of the file that likes most.
    public var depth: Int { image.depth }

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
    }

    /// One read of a file for each run of clusters that lie together in it; compressed clusters are unpacked only when
    /// the caller may wait.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: Qcow2Mapping.formatName)
        try image.read(into: &buffer, at: offset, mode)
    }

    /// As the tables, the backing device, and the holes of the file have it.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        try image.extent(at: offset, limit: limit, mode)
    }

    /// Of the file, or of the backing device, where that is what will be read.
    public func prefetch(_ range: ByteRange, _ budget: Budget) { image.prefetch(range, budget) }
}
