// SPDX-License-Identifier: Apache-2.0

/// The superblock of ext2, ext3 and ext4.
///
/// Source: Linux, Documentation/filesystems/ext4, "Super Block". All that is checked lies in its first 512 bytes.
enum ExtSuperblock {
    /// The file system, with more than 150 bits checked.
    static func name(_ block: SuperblockBytes) -> String? {
        let state = block.little(58, UInt16.self)
        let errors = block.little(60, UInt16.self)
        guard block.little(56, UInt16.self) == 0xEF53, state <= 7, errors <= 3,
            block.little(20, UInt32.self) <= 1,  // s_first_data_block
            block.little(24, UInt32.self) <= 6,  // s_log_block_size: 64 KiB
            block.little(72, UInt32.self) <= 4,  // s_creator_os
            block.little(76, UInt32.self) <= 1  // s_rev_level
        else { return nil }
        let compatible = block.little(92, UInt32.self)
        let incompatible = block.little(96, UInt32.self)
        let readOnly = block.little(100, UInt32.self)
        // Journal device; extents, 64bit and flex_bg; huge_file to metadata_csum.
        if incompatible & 0x8 != 0 { return "ext journal" }
        if incompatible & 0x2C0 != 0 || readOnly & 0x478 != 0 { return "ext4" }
        return compatible & 0x4 != 0 ? "ext3" : "ext2"
    }
}
