// SPDX-License-Identifier: Apache-2.0

public import BlockIO
import CGcrypt

/// A hash function by the name that the kernel and cryptsetup give it; libgcrypt computes it.
@safe
public struct HashAlgorithm: Sendable, Equatable, CustomStringConvertible {
    /// The name as the image has it.
    public let description: String
    /// The size of a digest in bytes.
    public let digestSize: Int
    /// libgcrypt's number.
    let identifier: Int32

    /// Every name that may be asked for, and libgcrypt's name for it.
    private static let names: [(name: String, library: String)] = [
        ("sha1", "SHA1"), ("sha224", "SHA224"), ("sha256", "SHA256"), ("sha384", "SHA384"), ("sha512", "SHA512"),
        ("sha3-224", "SHA3-224"), ("sha3-256", "SHA3-256"), ("sha3-384", "SHA3-384"), ("sha3-512", "SHA3-512"),
        ("ripemd160", "RIPEMD160"), ("rmd160", "RIPEMD160"), ("whirlpool", "WHIRLPOOL"), ("wp512", "WHIRLPOOL"),
        ("blake2b-160", "BLAKE2B_160"), ("blake2b-256", "BLAKE2B_256"), ("blake2b-384", "BLAKE2B_384"),
        ("blake2b-512", "BLAKE2B_512"), ("blake2s-128", "BLAKE2S_128"), ("blake2s-160", "BLAKE2S_160"),
        ("blake2s-224", "BLAKE2S_224"), ("blake2s-256", "BLAKE2S_256"), ("sm3", "SM3"),
        ("stribog256", "STRIBOG256"), ("stribog512", "STRIBOG512"), ("streebog256", "STRIBOG256"),
        ("streebog512", "STRIBOG512"), ("md5", "MD5"),
    ]

    /// The hash with this name, in any case of letters.
    /// - Throws: ``FormatError`` (unsupported) when there is none, with the names of those that there are.
    public init(_ name: String) throws(FormatError) {
        let known = name.utf8.count <= 32 ? Self.names.first { $0.name == name.lowercased() } : nil
        guard let known, let identifier = Self.identifier(of: known.library) else {
            throw .unsupported(
                "hash \(ShownText.quoted(name)): not one that this program can compute, which are \(Self.supported)")
        }
        self.description = known.name
        self.identifier = identifier
        self.digestSize = Int(gcry_md_get_algo_dlen(identifier))
    }

    /// The names of the hashes that can be computed here, for messages.
    public static var supported: String {
        names.filter { identifier(of: $0.library) != nil }.map(\.name).joined(separator: ", ")
    }

    /// Computes the digest of `bytes`, which is stored at the start of `digest`.
    /// - Parameter digest: at least ``digestSize`` bytes.
    public func hash(_ bytes: RawSpan, into digest: inout MutableRawSpan) {
        precondition(digest.byteCount >= digestSize)
        SecureHeap.use {
            unsafe digest.withUnsafeMutableBytes { digest in
                unsafe bytes.withUnsafeBytes { bytes in
                    unsafe gcry_md_hash_buffer(identifier, digest.baseAddress, bytes.baseAddress, bytes.count)
                }
            }
        }
    }

    /// Replaces `count` bytes of `bytes`, from `offset` on, by the digest of `counter`, as a big-endian 32-bit number,
    /// and these bytes. What is longer than `count` of the digest overwrites the bytes that follow.
    /// - Parameter bytes: at least `offset` + ``digestSize`` bytes.
    func replace(_ count: Int, of bytes: inout MutableRawSpan, at offset: Int, counter: UInt32) {
        precondition(count <= digestSize && offset >= 0 && offset + digestSize <= bytes.byteCount)
        var counter = counter.bigEndian
        SecureHeap.use {
            unsafe bytes.withUnsafeMutableBytes { bytes in
                unsafe withUnsafeMutableBytes(of: &counter) { counter in
                    let start = unsafe bytes.baseAddress?.advanced(by: offset)
                    let parts = unsafe [
                        gcry_buffer_t(size: 4, off: 0, len: 4, data: counter.baseAddress),
                        gcry_buffer_t(size: count, off: 0, len: count, data: start),
                    ]
                    // The digest is written when all has been read, so it may take the place of its input.
                    let error = unsafe gcry_md_hash_buffers(identifier, 0, start, parts, Int32(parts.count))
                    precondition(error == 0, "libgcrypt offered a hash and did not compute it")
                }
            }
        }
    }

    private static func identifier(of name: String) -> Int32? {
        SecureHeap.start()
        let identifier = unsafe gcry_md_map_name(name)
        let test = Int32(GCRYCTL_TEST_ALGO.rawValue)
        guard identifier != 0, gcry_md_algo_info(identifier, test, nil, nil) == 0 else { return nil }
        return identifier
    }
}
