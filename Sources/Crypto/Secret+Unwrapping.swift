// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Secrets that are encrypted with a key, as libvirt hands them to QEMU, and keeps them since 12.1.
extension Secret {
    /// Why a secret cannot be decrypted. Tells none of its bytes.
    public enum UnwrappingFault: Error, Equatable {
        /// The key has so many bytes, and 32 are needed.
        case keySize(Int)
        /// There are so many bytes, which is no multiple of 16, or none are encrypted.
        case size(Int)
        /// What comes out does not end as it is to: the key or the vector is another.
        case padding
    }

    /// The bytes that are encrypted with AES-256 in CBC mode, and padded as in PKCS #7.
    ///
    /// - Parameters:
    ///   - key: 32 bytes.
    ///   - vector: 16 bytes; nil: they come first, before what is encrypted.
    /// - Throws: ``UnwrappingFault``.
    public func decryptingAES256(key: Secret, vector: [UInt8]?) throws(UnwrappingFault) -> Secret {
        precondition(vector?.count ?? 16 == 16)
        let start = vector == nil ? 16 : 0
        let size = count - start
        guard key.count == 32 else { throw .keySize(key.count) }
        guard size > 0, size % 16 == 0 else { throw .size(count) }
        guard let cipher = OpenSSLCipher("AES-256-CBC", .decrypt, key: key) else { fatalError("OpenSSL offers no AES") }
        var vectors = VectorBatch(size: 16, count: 1)
        vectors.withMutableBytes { bytes in
            withBytes { first in
                for index in 0..<16 {
                    bytes.storeBytes(of: vector?[index] ?? first.byte(at: index), toByteOffset: index, as: UInt8.self)
                }
            }
        }
        let padded: Secret
        do {
            padded = try withBytes { (bytes) throws(BlockError) in
                try Secret(count: size) { (target) throws(BlockError) in
                    target.copy(from: bytes.extracting(start..<bytes.byteCount))
                    try cipher.transform(&target, .decrypt, unit: size, vectors: vectors)
                }
            }
        } catch { throw .padding }
        let padding = padded.withBytes { bytes -> Int? in
            let padding = Int(bytes.byte(at: bytes.byteCount - 1))
            guard (1...16).contains(padding) else { return nil }
            let isPadded = (bytes.byteCount - padding..<bytes.byteCount).allSatisfy { bytes.byte(at: $0) == padding }
            return isPadded ? padding : nil
        }
        guard let padding else { throw .padding }
        return padded.prefix(size - padding)
    }
}
