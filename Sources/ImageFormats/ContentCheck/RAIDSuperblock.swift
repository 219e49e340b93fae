// SPDX-License-Identifier: Apache-2.0

/// The superblock of Linux software RAID.
///
/// Source: Linux, include/uapi/linux/raid/md_p.h. Versions 1.0, 1.1 and 1.2 differ in the place alone: 8 KiB before the end,
/// the start, 4 KiB after the start. Version 0.90 begins the last whole 64 KiB.
enum RAIDSuperblock {
    private static let magic: UInt32 = 0xA92B_4EFC
    private static let name = "Linux RAID member"

    /// The place in bytes of version 0.90 in a volume of this length.
    static func placeOfVersion090(_ length: UInt64) -> UInt64? {
        length / 65536 >= 2 ? (length / 65536 - 1) * 65536 : nil
    }

    /// The place in bytes of version 1.0 in a volume of this length.
    static func placeOfVersion10(_ length: UInt64) -> UInt64? {
        length >= 16384 ? (length / 512 - 16) / 8 * 8 * 512 : nil
    }

    /// Magic and version: 96 bits.
    static func version090(_ block: SuperblockBytes, at place: UInt64) -> String? {
        block.little(0, UInt32.self) == magic && block.little(4, UInt32.self) == 0 && block.little(8, UInt32.self) == 90
            ? name : nil
    }

    /// Magic, version, and super_offset, which is the place in sectors: 128 bits.
    static func version1(_ block: SuperblockBytes, at place: UInt64) -> String? {
        block.little(0, UInt32.self) == magic && block.little(4, UInt32.self) == 1
            && block.little(144, UInt64.self) == place / 512 ? name : nil
    }
}
