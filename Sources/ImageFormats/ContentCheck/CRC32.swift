// SPDX-License-Identifier: Apache-2.0

import CDeflate

/// The checksum of Ethernet, gzip and GPT: polynomial 0x04C11DB7, reflected.
enum CRC32 {
    /// As GPT has it: from all ones, and inverted at the end.
    static func checksum(_ bytes: some Collection<UInt8>) -> UInt32 { ~update(~0, bytes) }

    /// What a checksum, not inverted, becomes with more bytes.
    static func update(_ checksum: UInt32, _ bytes: some Collection<UInt8>) -> UInt32 {
        // The library takes no address to mean that a checksum begins.
        guard !bytes.isEmpty else { return checksum }
        let updated: UInt32? = bytes.withContiguousStorageIfAvailable { bytes in
            unsafe ~libdeflate_crc32(~checksum, bytes.baseAddress, bytes.count)
        }
        return updated ?? update(checksum, Array(bytes))
    }
}
