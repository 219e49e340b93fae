// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Secrets that are encrypted with a key, as QEMU keeps them for libvirt.
extension Secret {
    /// Why a secret cannot be decrypted. Tells none of its bytes.
    public enum UnwrappingFault: Error, Equatable {
        /// The key has so many bytes, and 32 are needed.
        case keySize(Int)
        /// There are so many encrypted bytes, which is no multiple of 16, or none.
        case size(Int)
        /// What comes out does not end as it is to: the key or the vector is another.
        case padding
    }

    /// The bytes that are encrypted with AES-256 in CBC mode, and padded as in PKCS #7.
    ///
    /// - Parameters:
    ///   - key: 32 bytes.
    ///   - vector: 16 bytes.
    /// - Throws: ``UnwrappingFault``.
    public func decryptingAES256(key: Secret, vector: [UInt8]) throws(UnwrappingFault) -> Secret {
        precondition(vector.count == 16)
        guard key.count == 32 else { throw .keySize(key.count) }
        guard count > 0, count % 16 == 0 else { throw .size(count) }
        guard let cipher = OpenSSLCipher("AES-256-CBC", .decrypt, key: key) else { fatalError("OpenSSL offers no AES") }
        var vectors = VectorBatch(size: 16, count: 1)
        vectors.withMutableBytes { bytes in
            for (index, byte) in vector.enumerated() { bytes.storeBytes(of: byte, toByteOffset: index, as: UInt8.self) }
        }
        let padded: Secret
        do {
            padded = try withBytes { (bytes) throws(BlockError) in
                try Secret(count: count) { (target) throws(BlockError) in
                    target.copy(from: bytes)
                    try cipher.transform(&target, .decrypt, unit: count, vectors: vectors)
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
        return padded.prefix(count - padding)
    }
}
