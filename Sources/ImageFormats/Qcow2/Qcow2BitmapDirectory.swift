// SPDX-License-Identifier: Apache-2.0

public import BlockIO

extension Qcow2Bitmap {
    /// At most so many, as in QEMU.
    public static let maximumCount: UInt32 = 65535
    /// All entries together, in bytes; QEMU allows as much (QCOW2_MAX_BITMAP_DIRECTORY_SIZE): 1 KiB for each.
    private static let maximumDirectorySize = 1024 * UInt64(maximumCount)

    /// Reads the bitmap directory: the bitmaps of the active disk, those among them that cannot be used.
    ///
    /// None when ``warning(_:)`` says that they are out of date.
    /// - Parameters:
    ///   - file: holds `header`.
    ///   - cache: where parts of the bitmaps are kept.
    /// - Throws: ``FormatError`` when the directory cannot be right. The disk of the image can be read all the same.
    public static func all(
        of file: any BlockDevice, _ header: Qcow2Header, cache: ImageCache
    ) throws(FormatError) -> [Qcow2Bitmap] {
        guard let bitmaps = header.extensions.bitmaps, isUpToDate(header) else { return [] }
        let directory = try directory(bitmaps, header, fileSize: file.size)
        let share = CacheShare(of: cache, for: file)
        var found: [Qcow2Bitmap] = []
        var names: Set<String> = []
        var place = directory.range.offset
        for index in 0..<directory.count {
            let entry = try Qcow2BitmapEntry(file, index, at: place, end: directory.range.end)
            guard names.insert(entry.name).inserted else {
                throw .damaged(
                    "qcow2 bitmap directory: entry \(index)", at: place, found: "a second bitmap '\(entry.name)'",
                    allowed: "a name of its own for each")
            }
            let refusal = entry.refusal(header, fileSize: file.size)
            found.append(Qcow2Bitmap(entry, refusal: refusal, header, share))
            place += entry.length
        }
        guard place == directory.range.end else {
            throw .damaged(
                "qcow2 bitmap directory", at: place,
                found: "\(directory.range.end - place) bytes behind the last entry",
                allowed: "\(directory.count) entries and nothing else")
        }
        return found
    }

    /// What to say of an image whose bitmaps are not used because a program wrote to the image that does not know them.
    ///
    /// Source: qcow2 specification, autoclear feature bit 0: without it, the extension is not consistent.
    /// - Returns: a sentence; nil when there are no bitmaps or they are up to date.
    public static func warning(_ header: Qcow2Header) -> String? {
        guard header.extensions.hasBitmaps, !isUpToDate(header) else { return nil }
        return "a program that does not know bitmaps has changed the image since they were saved: "
            + "its bitmaps miss changes and are not offered"
    }

    /// Do the bitmaps tell of the disk as it is?
    static func isUpToDate(_ header: Qcow2Header) -> Bool { header.features.autoclear & 1 == 1 }

    /// Where the directory is, from the extension.
    static func directory(
        _ bitmaps: Qcow2Extensions.Bitmaps, _ header: Qcow2Header, fileSize: UInt64
    ) throws(FormatError) -> (range: ByteRange, count: Int) {
        let what = "qcow2 header extension 0x23852875 (bitmaps)"
        guard bitmaps.length == Qcow2Extensions.Bitmaps.fixedLength else {
            throw .damaged(
                what, at: bitmaps.place, found: "\(bitmaps.length) bytes",
                allowed: "\(Qcow2Extensions.Bitmaps.fixedLength) bytes")
        }
        var reader = ByteReader(bitmaps.data)
        let count = reader.integer(UInt32.self) ?? 0
        let reserved = reader.integer(UInt32.self) ?? 0
        let size = reader.integer(UInt64.self) ?? 0
        let offset = reader.integer(UInt64.self) ?? 0
        guard reserved == 0 else {
            throw .damaged("\(what): reserved bytes", at: bitmaps.place + 4, found: reserved, allowed: "0")
        }
        guard 1...maximumCount ~= count else {
            throw .damaged("\(what): nb_bitmaps", at: bitmaps.place, found: count, allowed: "1 to \(maximumCount)")
        }
        guard 1...maximumDirectorySize ~= size else {
            throw .damaged(
                "\(what): bitmap_directory_size", at: bitmaps.place + 8, found: size,
                allowed: "1 to \(maximumDirectorySize)")
        }
        guard offset > 0, offset % header.clusterSize == 0, let range = ByteRange(offset: offset, length: size),
            range.fits(fileSize)
        else {
            throw .damaged(
                "\(what): bitmap_directory_offset", at: bitmaps.place + 16, found: "\(size) bytes at \(offset)",
                allowed: "the start of a cluster, and within the file's \(fileSize) bytes")
        }
        return (range, Int(count))
    }
}
