// SPDX-License-Identifier: Apache-2.0

/// The checksum of Ethernet, gzip and GPT: polynomial 0x04C11DB7, reflected.
enum CRC32 {
    /// For a few hundred bytes: one bit at a time.
    static func checksum(_ bytes: some Sequence<UInt8>) -> UInt32 {
        ~bytes.reduce(~0) { checksum, byte in
            (0..<8).reduce(checksum ^ UInt32(byte)) { value, _ in
                value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1
            }
        }
    }
}
