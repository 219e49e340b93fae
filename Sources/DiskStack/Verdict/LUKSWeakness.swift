// SPDX-License-Identifier: Apache-2.0

package import Crypto

/// What is weak about a LUKS container; encryptions and hashes are those of the header.
package enum LUKSWeakness: Equatable {
    /// A part of it is in the clear.
    case plaintext(LUKSPlaintext)
    /// It is LUKS1: no argon2, one copy of the header, no checksum.
    case version1(Conversion)
    /// One of the two copies of the header cannot be used.
    case damagedCopy
    /// A reencryption has begun and not ended.
    case unfinishedReencryption(hasChangedData: Bool)
    /// Only the volume key opens the data.
    case noKeyslot
    /// PBKDF2 with so few iterations that graphics cards try passphrases fast.
    case fewIterations(UInt32, hash: String, keyslot: Int)
    /// A hash that is outdated.
    case outdatedHash(String, keyslot: Int)
    /// argon2 with so little memory, in KiB, that passphrases can be tried side by side.
    case littleMemory(UInt32, keyslot: Int)
    /// Something about the cipher of a segment.
    case cipher(CipherWeakness, encryption: String)
    /// Sectors of 512 bytes, where larger ones would do.
    case smallSectors

    /// Can a LUKS1 container become LUKS2 where it is?
    package enum Conversion: Equatable {
        /// Not by a command that knows it: a new image is made.
        case byRenewal
        /// The data begins where the header ends.
        case withoutRoom
        /// QEMU opens it no longer then.
        case losesQEMU
    }
}

/// What is weak about a cipher, its mode, or how it makes vectors.
package enum CipherWeakness: Equatable, CaseIterable {
    /// Equal blocks can be seen to be equal (ECB).
    case equalBlocks
    /// Overwritten sectors give away the difference of old and new (CTR).
    case reusedStream
    /// Vectors that can be predicted let an attacker mark files and find them.
    case predictableVectors
    /// Chosen bits can be changed (CBC).
    case malleable
    /// A disk that holds its own key gives it away (LRW).
    case keyOnDisk
    /// Vectors repeat every 2 TiB.
    case repeatedVectors
    /// Blocks of 64 bits collide after some GiB.
    case smallBlocks

    /// All that is weak about an encryption as LUKS names it, e.g. "aes-cbc-plain".
    static func all(of encryption: String) -> [CipherWeakness] {
        let parts = encryption.split(separator: "-").map(String.init)
        var found: [CipherWeakness] = []
        if parts.contains("ecb") {
            found.append(.equalBlocks)
        } else if parts.contains("ctr") {
            found.append(.reusedStream)
        } else if parts.contains("cbc") {
            let isPredictable = !encryption.contains("essiv") && !encryption.contains("eboiv")
            found.append(isPredictable ? .predictableVectors : .malleable)
        }
        if parts.contains("lrw") { found.append(.keyOnDisk) }
        // What follows a colon is an option, which this vector does not use.
        if parts.last?.prefix(while: { $0 != ":" }) == "plain" { found.append(.repeatedVectors) }
        if ["cast5", "blowfish", "des3_ede"].contains(parts.first) { found.append(.smallBlocks) }
        return found
    }
}
