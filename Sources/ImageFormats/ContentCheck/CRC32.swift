// SPDX-License-Identifier: Apache-2.0

/// The checksum of Ethernet, gzip and GPT: polynomial 0x04C11DB7, reflected.
enum CRC32 {
    /// As GPT has it: from all ones, and inverted at the end.
    static func checksum(_ bytes: some Sequence<UInt8>) -> UInt32 { ~update(~0, bytes) }

    /// What a checksum becomes with more bytes.
    static func update(_ checksum: UInt32, _ bytes: some Sequence<UInt8>) -> UInt32 {
        bytes.reduce(checksum) { value, byte in value >> 8 ^ table[Int(UInt8(truncatingIfNeeded: value) ^ byte)] }
    }

    private static let table: [UInt32] = (0..<256).map { byte in
        (0..<8).reduce(UInt32(byte)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
    }
}
