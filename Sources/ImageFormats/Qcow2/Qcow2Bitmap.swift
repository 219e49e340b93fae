// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A dirty bitmap that a qcow2 image keeps of its active disk.
///
/// Its clusters are read when they are asked for, and kept in the cache of the image: memory does not grow with it.
/// Source: qcow2 specification, "Bitmaps": bitmap table, bitmap data.
public final class Qcow2Bitmap: DirtyBitmap {
    /// Printable; not empty.
    public let name: String
    /// How many bytes of the disk a bit stands for: 2^this.
    public let granularityBits: Int
    /// The image was not closed properly while a program had the bitmap: it misses changes.
    public let isInconsistent: Bool
    /// The bitmap goes on with every write to the image.
    public let isEnabled: Bool
    /// Why the bitmap cannot be used; nil when it can. A sentence with its name, and what to do.
    public let refusal: FormatError?

    /// Of the disk in bytes.
    private let size: UInt64
    private let clusterBits: Int
    private let table: Table
    private let share: CacheShare

    /// Where the bitmap table is.
    private struct Table {
        /// In bytes; a multiple of the cluster size.
        let offset: UInt64
        /// In entries of 8 bytes.
        let entryCount: Int
    }

    /// What one answer may look at; a slice of bits costs ``sliceCost``, an entry of the table 1.
    private static let workLimit = 4096
    private static let sliceCost = 64
    /// Entries of a slice of the table, and words of a slice of bits.
    private static let sliceWords = 512

    /// - Parameters:
    ///   - refusal: nil when `table` is in the file and large enough for the disk.
    ///   - share: of the image that has the bitmap.
    init(_ entry: Qcow2BitmapEntry, refusal: FormatError?, _ header: Qcow2Header, _ share: CacheShare) {
        name = entry.name
        granularityBits = Int(entry.granularityBits)
        isInconsistent = entry.isInUse
        isEnabled = entry.isAutomatic
        self.refusal = refusal
        size = header.virtualSize
        clusterBits = header.clusterBits
        table = Table(offset: entry.tableOffset, entryCount: Int(entry.tableEntryCount))
        self.share = share
    }

    /// Joins equal bits as far as some slices of the bitmap tell.
    /// - Throws: ``BlockError`` when the bitmap is refused, cannot be read, or has an entry that cannot be right.
    public func run(
        at offset: UInt64, limit: UInt64, _ mode: ReadMode
    ) throws(BlockError) -> (isDirty: Bool, length: UInt64) {
        if let refusal { throw .damaged(refusal.description) }
        guard offset < size, limit > 0 else { throw .outOfRange("qcow2 bitmap: there is no byte \(offset)") }
        let shift = UInt64(granularityBits)
        let end = offset + min(limit, size - offset)
        let endBit = (end - 1) >> shift + 1
        let first = try bits(at: offset >> shift, mode)
        var bit = offset >> shift + first.count
        var work = Self.workLimit - first.cost
        while bit < endBit, work > 0, mode.mayLook() {
            // What cannot be read has an answer of its own, when it is asked for.
            guard let next = try? bits(at: bit, mode), next.isDirty == first.isDirty else { break }
            bit += next.count
            work -= next.cost
        }
        // The disk, and so an end of whole bits, is far below 2^64.
        return (first.isDirty, min(end, min(bit, endBit) << shift) - offset)
    }

    /// Bits in a row that are equal.
    private struct Bits {
        let isDirty: Bool
        /// More than 0.
        let count: UInt64
        /// What it took to find out.
        let cost: Int
    }

    /// The bits from this one on, which is a bit of the disk.
    private func bits(at bit: UInt64, _ mode: ReadMode) throws(BlockError) -> Bits {
        let bitsPerCluster: UInt64 = 8 << UInt64(clusterBits)
        let inCluster = bit % bitsPerCluster
        switch try entry(Int(bit / bitsPerCluster), mode) {
        case .allZeros: return Bits(isDirty: false, count: bitsPerCluster - inCluster, cost: 1)
        case .allOnes: return Bits(isDirty: true, count: bitsPerCluster - inCluster, cost: 1)
        case .stored(let cluster):
            let count = min(Self.sliceWords, 1 << (clusterBits - 3))
            let inSlice = inCluster % UInt64(count * 64)
            let place = cluster + (inCluster - inSlice) / 8
            let words = try share.words(at: place, count: count, mode)
            return Self.bits(in: words, from: Int(inSlice))
        }
    }

    /// Bits are numbered from the least significant one of the first byte on; the words are big-endian.
    private static func bits(in words: [UInt64], from first: Int) -> Bits {
        let isDirty = words[first / 64].byteSwapped >> UInt64(first % 64) & 1 == 1
        var rest = ~UInt64(0) << UInt64(first % 64)
        for index in (first / 64)..<words.count {
            let word = words[index].byteSwapped
            let different = (isDirty ? ~word : word) & rest
            if different != 0 {
                return Bits(
                    isDirty: isDirty, count: UInt64(index * 64 + different.trailingZeroBitCount - first),
                    cost: sliceCost)
            }
            rest = ~0
        }
        return Bits(isDirty: isDirty, count: UInt64(words.count * 64 - first), cost: sliceCost)
    }

    /// What an entry of the bitmap table says of its cluster of bits.
    private enum Entry {
        case allZeros
        case allOnes
        /// In the file at this byte.
        case stored(UInt64)
    }

    /// Bits 1 to 8 and 56 to 63.
    private static let reservedBits: UInt64 = 0xFF00_0000_0000_01FE
    static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00

    private func entry(_ index: Int, _ mode: ReadMode) throws(BlockError) -> Entry {
        // The table covers the disk: that has been checked.
        let start = index / Self.sliceWords * Self.sliceWords
        let words = try share.words(
            at: table.offset + UInt64(start) * 8, count: min(Self.sliceWords, table.entryCount - start), mode)
        let entry = words[index - start]
        let offset = entry & Self.offsetMask
        let place = "qcow2 bitmap '\(name)': entry \(index) of the table at byte \(table.offset)"
        guard entry & Self.reservedBits == 0, offset == 0 || entry & 1 == 0 else {
            throw .damaged("\(place) is 0x\(String(entry, radix: 16)), which has reserved bits")
        }
        if offset == 0 { return entry & 1 == 1 ? .allOnes : .allZeros }
        let clusterSize: UInt64 = 1 << UInt64(clusterBits)
        guard offset % clusterSize == 0 else {
            throw .damaged("\(place) points to byte \(offset), which is not the start of a cluster")
        }
        guard offset + clusterSize <= share.file.size else {
            throw .damaged("\(place) points to byte \(offset), outside the file's \(share.file.size) bytes")
        }
        return .stored(offset)
    }
}
