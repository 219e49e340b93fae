// SPDX-License-Identifier: Apache-2.0

/// The checksum of everything that LVM2 writes.
enum LVMChecksum {
    private static let start: UInt32 = 0xF597_A6CF

    /// CRC-32 from a start of its own, not inverted at the end.
    static func of(_ bytes: some Collection<UInt8>) -> UInt32 { CRC32.update(start, bytes) }
}
