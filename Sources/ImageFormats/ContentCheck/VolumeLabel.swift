// SPDX-License-Identifier: Apache-2.0

/// Labels of volumes that hold something other than a file system.
enum VolumeLabel {
    /// Magic and version, 64 bits. What is inside needs another passphrase; that it is there shows that ours is right.
    static func luks(_ sector: SuperblockBytes) -> String? {
        guard sector.big(4, UInt16.self) == 0xBABE, (1...2).contains(sector.big(6, UInt16.self)) else { return nil }
        if sector.has("LUKS", at: 0) { return "LUKS\(sector.big(6, UInt16.self))" }
        return sector.has("RBDL", at: 0) ? "encrypted Ceph clone" : nil
    }

    /// The label of an LVM2 physical volume, in one of the first four sectors, names its own sector: 192 bits.
    static func lvm(_ sector: SuperblockBytes, at place: UInt64) -> String? {
        sector.has("LABELONE", at: 0) && sector.has("LVM2 001", at: 24)
            && sector.little(8, UInt64.self) == place / 512 ? "LVM2 physical volume" : nil
    }

    /// The last 10 bytes of the first page, of 4 KiB on most machines, 64 KiB on some: 80 bits.
    static func swap(_ bytes: SuperblockBytes) -> String? {
        bytes.has("SWAPSPACE2", at: 0) || bytes.has("SWAP-SPACE", at: 0) ? "Linux swap" : nil
    }

    /// The partition table of the BSDs has its magic twice: 64 bits.
    static func bsd(_ sector: SuperblockBytes) -> String? {
        sector.little(0, UInt32.self) == 0x8256_4557 && sector.little(132, UInt32.self) == 0x8256_4557
            ? "BSD disklabel" : nil
    }
}
