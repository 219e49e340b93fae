// SPDX-License-Identifier: Apache-2.0

/// The first sector of the file systems of DOS and Windows.
enum BootSector {
    /// The file system, with at least 62 bits checked.
    static func name(_ sector: SuperblockBytes) -> String? {
        if sector.has("NTFS    ", at: 3) { return "NTFS" }
        if sector.has("EXFAT   ", at: 3), sector.isZero(11, 53) { return "exFAT" }
        if sector.has("-FVE-FS-", at: 3) { return "BitLocker" }
        if sector.has("ReFS", at: 3), sector.has("FSRS", at: 16) { return "ReFS" }
        return fat(sector)
    }

    /// FAT has no magic but 55 AA; each field of the BIOS parameter block allows a few values of many.
    ///
    /// Source: "FAT32 File System Specification" 1.03. Bits: 16 magic, 7 jump, 14 bytes per sector, 5 sectors per
    /// cluster, 7 number of FATs, 4 media, and 11 or more from the number of sectors, which one of two fields holds while the
    /// other is zero. A FAT32 has three more fields that are zero.
    private static func fat(_ sector: SuperblockBytes) -> String? {
        let bytesPerSector = UInt64(sector.little(11, UInt16.self))
        let sectorsPerCluster = UInt64(sector.byte(13))
        let reserved = UInt64(sector.little(14, UInt16.self))
        let fatCount = UInt64(sector.byte(16))
        let rootEntries = UInt64(sector.little(17, UInt16.self))
        let small = UInt64(sector.little(19, UInt16.self))
        let media = sector.byte(21)
        let sectorsPerFAT16 = UInt64(sector.little(22, UInt16.self))
        let large = UInt64(sector.little(32, UInt32.self))
        guard sector.little(510, UInt16.self) == 0xAA55, [0xEB, 0xE9].contains(sector.byte(0)),
            [512, 1024, 2048, 4096].contains(bytesPerSector), sectorsPerCluster.nonzeroBitCount == 1, reserved > 0,
            (1...2).contains(fatCount), media == 0xF0 || media >= 0xF8, (small == 0) != (large == 0)
        else { return nil }
        let sectorCount = small + large
        if sectorsPerFAT16 == 0 {
            // FAT32: fixed sizes are zero, the version is 0.0, the backup boot sector is in the reserved ones.
            let backup = sector.little(50, UInt16.self)
            return rootEntries == 0 && small == 0 && sector.isZero(42, 2) && UInt64(backup) < reserved ? "FAT32" : nil
        }
        // The root directory fills whole sectors, and FATs and directory fit: none of these products comes near 64 bits.
        let rootBytes = rootEntries * 32
        let overhead = reserved + fatCount * sectorsPerFAT16 + rootBytes / bytesPerSector
        guard rootEntries > 0, rootBytes % bytesPerSector == 0, overhead < sectorCount else { return nil }
        let clusters = (sectorCount - overhead) / sectorsPerCluster
        let widestEntries = sectorsPerFAT16 * bytesPerSector * 2 / 3
        guard clusters < 65525, clusters <= widestEntries else { return nil }
        return clusters < 4085 ? "FAT12" : "FAT16"
    }
}
