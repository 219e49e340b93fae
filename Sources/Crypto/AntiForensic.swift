// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The anti-forensic splitter of LUKS, which inflates a key so that losing any part of it loses the key.
///
/// Source: LUKS1 On-Disk Format Specification 1.2.3, section 2.4.
public enum AntiForensic {
    /// The key of which `split` was made.
    ///
    /// - Parameters:
    ///   - split: at least `keySize` × `stripes` bytes.
    ///   - keySize: in bytes, more than zero.
    ///   - stripes: more than zero; LUKS always has 4000.
    public static func merge(_ split: Secret, keySize: Int, stripes: Int, hash: HashAlgorithm) -> Secret {
        precondition(keySize > 0 && stripes > 0 && split.count / stripes >= keySize)
        // The last digest of a stripe may be longer than what is left of the stripe.
        // One use for all hashes, because the end of each wipes a lot of stack.
        let work = SecureHeap.use {
            split.withBytes { split in
                Secret(count: keySize + hash.digestSize) { work in
                    for stripe in 0..<stripes {
                        for offset in 0..<keySize {
                            let mixed = work.bytes.byte(at: offset) ^ split.byte(at: stripe * keySize + offset)
                            work.storeBytes(of: mixed, toByteOffset: offset, as: UInt8.self)
                        }
                        if stripe < stripes - 1 { diffuse(&work, keySize: keySize, hash: hash) }
                    }
                }
            }
        }
        return work.prefix(keySize)
    }

    /// Replaces each piece of digest size by the digest of its number and itself; the last piece may be short.
    private static func diffuse(_ bytes: inout MutableRawSpan, keySize: Int, hash: HashAlgorithm) {
        for (counter, start) in stride(from: 0, to: keySize, by: hash.digestSize).enumerated() {
            let count = min(hash.digestSize, keySize - start)
            hash.replace(count, of: &bytes, at: start, counter: UInt32(counter))
        }
    }
}
