// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The guest disk of a qcow image of version 1, decrypted when the image is encrypted.
///
/// Sectors are numbered by guest offset. Compressed clusters and what the backing file holds never pass the cipher.
/// Any number of threads may read.
public final class QcowImage: ReadOnlyDevice {
    private let image: MappedImage<QcowMapping>
    /// The guest disk's length in bytes, whole sectors of 512.
    public var size: UInt64 { image.mapping.virtualSize }
    /// The cipher's sector, or 1 without a cipher.
    public var alignment: Int { image.alignment }
    /// Of the file that likes most.
    public var depth: Int { image.depth }

    /// - Parameters:
    ///   - file: the image; of alignment 1.
    ///   - header: of `file`.
    ///   - cipher: of the data; nil exactly when the image is not encrypted.
    ///   - backing: the disk behind unallocated clusters, nil when there is none. It may be smaller or larger than this
    ///     disk: what it does not reach reads as zeros.
    ///   - cache: shared by images that are open together.
    public init(
        file: any BlockDevice, header: QcowHeader, cipher: (any SectorCipher)?, backing: (any BlockDevice)?,
        cache: ImageCache = ImageCache()
    ) {
        precondition((cipher != nil) == (header.encryption != .none))
        image = MappedImage(
            QcowMapping(header), file: file, backing: backing, cipher: cipher, numberedBy: .guest,
            compression: .deflate, cache: cache)
    }

    /// One read of the file, or of the backing file, for each run of clusters that lie together in it; compressed
    /// clusters are unpacked only when the caller may wait.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: QcowMapping.formatName)
        try image.read(into: &buffer, at: offset, mode)
    }

    /// As the tables, the backing file, and the holes of the file have it.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        try image.extent(at: offset, limit: limit, mode)
    }

    /// Of the file, or of the backing file, where that is what will be read.
    public func prefetch(_ range: ByteRange, _ budget: Budget) { image.prefetch(range, budget) }
}
