// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// A LUKS2 header that is in order, field by field of the specification; no passphrase opens it.
///
/// Two keyslots, a token, a segment from 1 MiB on, a digest; copies of 16 KiB, a file of 2 MiB.
public struct LUKS2Fixture: Sendable {
    /// The JSON of both copies, or of the primary one when `secondaryJSON` is set.
    public var json = Self.goodJSON
    /// That of the secondary copy, when it differs.
    public var secondaryJSON: String?
    /// In bytes; also what the binary headers say.
    public var copySize = 16384
    /// Of the primary and the secondary copy.
    public var sequenceIDs: (primary: UInt64, secondary: UInt64) = (7, 7)
    /// Fills the rest of the JSON area.
    public var padding: UInt8 = 0
    /// The length of the file in bytes.
    public var fileSize: UInt64 = 2 << 20

    static let salt = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    static let goodJSON = """
        {"keyslots":{\
        "0":{"type":"luks2","key_size":64,"af":{"type":"luks1","stripes":4000,"hash":"sha256"},\
        "area":{"type":"raw","offset":"32768","size":"258048","encryption":"aes-xts-plain64","key_size":64},\
        "kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000,"salt":"\(salt)"}},\
        "1":{"type":"luks2","key_size":64,"priority":2,"af":{"type":"luks1","stripes":4000,"hash":"sha512"},\
        "area":{"type":"raw","offset":"290816","size":"258048","encryption":"aes-xts-plain64","key_size":32},\
        "kdf":{"type":"argon2id","time":4,"memory":1024,"cpus":2,"salt":"\(salt)"}}},\
        "tokens":{"0":{"type":"luks2-keyring","keyslots":["1"],"key_description":"description"}},\
        "segments":{"0":{"type":"crypt","offset":"1048576","size":"dynamic","iv_tweak":"0",\
        "encryption":"aes-xts-plain64","sector_size":4096}},\
        "digests":{"0":{"type":"pbkdf2","keyslots":["0","1"],"segments":["0"],"hash":"sha256","iterations":2000,\
        "salt":"\(salt)","digest":"\(salt)"}},\
        "config":{"json_size":"12288","keyslots_size":"524288"}}
        """

    /// A header in order.
    public init() {}

    /// The file, with right checksums.
    public var image: LUKSTestImage {
        var image = unsigned
        Self.sign(&image, copySize)
        return image
    }

    /// The file without checksums.
    var unsigned: LUKSTestImage {
        var image = LUKSTestImage(bytes: [UInt8](repeating: padding, count: 2 * copySize), size: fileSize)
        for (offset, json, sequence) in [
            (0, json, sequenceIDs.primary), (copySize, secondaryJSON ?? json, sequenceIDs.secondary),
        ] {
            image.put([UInt8](repeating: 0, count: 4096), at: offset)
            image.put(
                (offset == 0 ? [0x4C, 0x55, 0x4B, 0x53] : [0x53, 0x4B, 0x55, 0x4C]) + [0xBA, 0xBE, 0, 2], at: offset)
            image.put(UInt64(copySize), at: offset + 8)
            image.put(sequence, at: offset + 16)
            image.put("label", at: offset + 24)
            image.put("sha256", at: offset + 72)
            image.put([UInt8](repeating: offset == 0 ? 1 : 2, count: 64), at: offset + 104)
            image.put("6c756b73-0000-4000-8000-000000000002", at: offset + 168)
            image.put("subsystem", at: offset + 208)
            image.put(UInt64(offset), at: offset + 256)
            image.put(Array(json.utf8.prefix(copySize - 4096)), at: offset + 4096)
        }
        return image
    }

    /// Puts the right checksums into both copies.
    static func sign(_ image: inout LUKSTestImage, _ copySize: Int) {
        for offset in [0, copySize] {
            image.put([UInt8](repeating: 0, count: 64), at: offset + 448)
            image.put(SHA256.digest(of: image.bytes[offset..<(offset + copySize)]), at: offset + 448)
        }
    }
}

/// FIPS 180-4, written down plainly: what the checksums are compared with must not come from the library under test.
enum SHA256 {
    /// The fractional parts of the cube roots of the first 64 primes.
    private static let constants: [UInt32] = [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ]

    static func digest(of message: some Collection<UInt8>) -> [UInt8] {
        var state: [UInt32] = [
            0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
        ]
        var padded = Array(message) + [0x80]
        padded += [UInt8](repeating: 0, count: (120 - padded.count % 64) % 64)
        padded.append(bigEndian: UInt64(message.count * 8))
        for block in stride(from: 0, to: padded.count, by: 64) {
            var reader = ByteReader(padded[block..<(block + 64)])
            compress(&state, (0..<16).map { _ in reader.integer(UInt32.self) ?? 0 })
        }
        return state.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(24 - 8 * $0)) } }
    }

    private static func compress(_ state: inout [UInt32], _ block: [UInt32]) {
        func rotate(_ word: UInt32, _ count: UInt32) -> UInt32 { word >> count | word << (32 - count) }
        var words = block
        for index in 16..<64 {
            let first = words[index - 15]
            let second = words[index - 2]
            words.append(
                words[index - 16] &+ (rotate(first, 7) ^ rotate(first, 18) ^ first >> 3) &+ words[index - 7]
                    &+ (rotate(second, 17) ^ rotate(second, 19) ^ second >> 10))
        }
        var (a, b, c, d) = (state[0], state[1], state[2], state[3])
        var (e, f, g, h) = (state[4], state[5], state[6], state[7])
        for index in 0..<64 {
            let choice = e & f ^ ~e & g
            let first =
                h &+ (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) &+ choice &+ constants[index] &+ words[index]
            let majority = a & b ^ a & c ^ b & c
            let second = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) &+ majority
            (h, g, f, e, d, c, b, a) = (g, f, e, d &+ first, c, b, a, first &+ second)
        }
        for (index, word) in [a, b, c, d, e, f, g, h].enumerated() { state[index] &+= word }
    }
}
