// SPDX-License-Identifier: Apache-2.0

/// What is strong about a LUKS container; encryptions and hashes are those of the header.
package enum LUKSStrength: Equatable {
    /// It is LUKS2: two copies of the header, with checksums.
    case version2
    /// A program keeps the random key of the keyslot, of which no guess gets anywhere.
    case randomKey(program: String, keyslot: Int)
    /// PBKDF2 with enough iterations.
    case iterations(UInt32, hash: String, keyslot: Int)
    /// argon2 with enough memory, in KiB.
    case memory(UInt32, time: UInt32, lanes: UInt32, keyslot: Int)
    /// A sound choice for disks.
    case cipher(String)
}
