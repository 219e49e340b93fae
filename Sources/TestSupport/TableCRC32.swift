// SPDX-License-Identifier: Apache-2.0

/// CRC-32 with the polynomial 0x04C11DB7, reflected, from a table of its own: a second opinion on the library's.
public enum TableCRC32 {
    private static let table: [UInt32] = (0..<256).map { byte in
        (0..<8).reduce(UInt32(byte)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
    }

    /// As GPT has it: from all ones, and inverted at the end.
    public static func checksum(_ bytes: some Sequence<UInt8>) -> UInt32 { ~update(~0, bytes) }

    /// What a checksum, not inverted, becomes with more bytes.
    public static func update(_ checksum: UInt32, _ bytes: some Sequence<UInt8>) -> UInt32 {
        bytes.reduce(checksum) { value, byte in value >> 8 ^ table[Int(UInt8(truncatingIfNeeded: value) ^ byte)] }
    }

    /// As LVM2 has it: from a start of its own, and not inverted.
    public static func lvm(_ bytes: some Sequence<UInt8>) -> UInt32 { update(0xF597_A6CF, bytes) }
}
