// SPDX-License-Identifier: Apache-2.0

/// Superblocks of file systems other than those of Linux's ext family and of DOS and Windows.
enum Superblock {
    private static func isPowerOfTwo(_ value: some FixedWidthInteger, _ range: ClosedRange<Int>) -> Bool {
        value.nonzeroBitCount == 1 && range.contains(Int(clamping: value))
    }

    /// What stands in the first sector.
    static func atStart(_ block: SuperblockBytes) -> String? { xfs(block) ?? squashFS(block) ?? apfs(block) }

    /// Source: "XFS Algorithms and Data Structures", Superblocks. Big-endian.
    private static func xfs(_ block: SuperblockBytes) -> String? {
        let blockSize = block.big(4, UInt32.self)
        return block.has("XFSB", at: 0) && isPowerOfTwo(blockSize, 512...65536)
            && (1...5).contains(block.big(100, UInt16.self) & 0xF)
            && Int(block.byte(120)) == blockSize.trailingZeroBitCount ? "XFS" : nil
    }

    /// Source: btrfs "On-disk format", Superblock: it names its own place.
    static func btrfs(_ block: SuperblockBytes) -> String? {
        block.has("_BHRfS_M", at: 64) && block.little(48, UInt64.self) == 65536 ? "btrfs" : nil
    }

    /// Source: Linux, fs/jfs/jfs_superblock.h.
    static func jfs(_ block: SuperblockBytes) -> String? {
        let blockSize = block.little(16, UInt32.self)
        return block.has("JFS1", at: 0) && (1...2).contains(block.little(4, UInt32.self))
            && isPowerOfTwo(blockSize, 512...4096) ? "JFS" : nil
    }

    /// Formats 3.5, 3.6 and "non-standard journal" differ in the text; the first stood at 8 KiB, the others at 64 KiB.
    static func reiserFS(_ block: SuperblockBytes) -> String? {
        if block.has("ReIsEr4\0", at: 0) { return "Reiser4" }
        return ["ReIsErFs", "ReIsEr2Fs", "ReIsEr3Fs"].contains { block.has($0, at: 52) } ? "ReiserFS" : nil
    }

    /// UFS1 and UFS2 of little-endian machines: the BSDs, old Solaris x86. Source: FreeBSD, sys/ufs/ffs/fs.h.
    static func ufs(_ block: SuperblockBytes) -> String? {
        guard isPowerOfTwo(block.little(48, UInt32.self), 4096...65536),
            isPowerOfTwo(block.little(52, UInt32.self), 512...65536)
        else { return nil }
        switch block.little(1372, UInt32.self) {
        case 0x0001_1954: return "UFS1"
        case 0x1954_0119: return "UFS2"
        default: return nil
        }
    }

    /// Source: Apple Technical Note TN1150, "Volume Header". Big-endian.
    static func hfsPlus(_ block: SuperblockBytes) -> String? {
        let version = block.big(2, UInt16.self)
        return (block.has("H+", at: 0) && version == 4 || block.has("HX", at: 0) && version == 5)
            && isPowerOfTwo(block.big(40, UInt32.self), 512...1_048_576) ? "HFS+" : nil
    }

    /// Source: "Apple File System Reference", nx_superblock_t.
    private static func apfs(_ block: SuperblockBytes) -> String? {
        block.has("NXSB", at: 32) && isPowerOfTwo(block.little(36, UInt32.self), 4096...65536) ? "APFS" : nil
    }

    /// Source: Linux, include/linux/f2fs_fs.h.
    static func f2fs(_ block: SuperblockBytes) -> String? {
        block.little(0, UInt32.self) == 0xF2F5_2010 && (9...12).contains(block.little(8, UInt32.self))
            && (12...16).contains(block.little(16, UInt32.self)) ? "F2FS" : nil
    }

    /// Source: Linux, fs/squashfs/squashfs_fs.h, version 4.
    private static func squashFS(_ block: SuperblockBytes) -> String? {
        let blockSize = block.little(12, UInt32.self)
        return block.has("hsqs", at: 0) && block.little(28, UInt32.self) == 4
            && isPowerOfTwo(blockSize, 4096...1_048_576) ? "SquashFS" : nil
    }

    /// The first volume descriptor: identifier, version, and type 1 with its unused byte.
    ///
    /// Source: ECMA-119 section 8.4, ECMA-167 part 2 section 9.2.
    static func opticalDisc(_ block: SuperblockBytes) -> String? {
        guard block.byte(6) == 1 else { return nil }
        if block.has("CD001", at: 1), block.byte(0) == 1, block.byte(7) == 0 { return "ISO 9660" }
        return block.has("BEA01", at: 1) && block.isZero(7, 505) ? "UDF" : nil
    }
}
