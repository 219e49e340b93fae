// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import COpenSSL
import Synchronization

/// A block cipher of OpenSSL with its key, for decryption; any number of threads may use it at the same time.
///
/// Setting a key costs more than decrypting a sector, so each thread borrows a context that has it already.
@safe
final class OpenSSLCipher: Sendable {
    private let pool = Mutex<[Context]>([])
    private let algorithm: Algorithm
    private let key: Secret

    /// The algorithms in use. Data is a whole number of blocks: nothing is padded.
    enum Algorithm {
        /// AES with a key of 16 bytes in CBC mode.
        case aes128CBC
    }

    init(_ algorithm: Algorithm, key: Secret) {
        self.algorithm = algorithm
        self.key = key
    }

    /// Decrypts `bytes`, a whole number of cipher blocks, in place.
    /// - Parameter iv: the 16 bytes of the initialization vector, as two little-endian words.
    func decrypt(_ bytes: inout MutableRawSpan, iv: (UInt64, UInt64)) throws(BlockError) {
        let context = pool.withLock { $0.popLast() } ?? Context(algorithm, key)
        defer { pool.withLock { $0.append(context) } }
        guard context.decrypt(&bytes, iv: iv) else {
            throw .inputOutput("cipher: OpenSSL refused to decrypt \(bytes.byteCount) bytes")
        }
    }

    /// One EVP_CIPHER_CTX. The pool hands it to one thread at a time, which makes it safe to send.
    @safe
    private final class Context: @unchecked Sendable {
        private let context: OpaquePointer

        init(_ algorithm: Algorithm, _ key: Secret) {
            guard let context = unsafe EVP_CIPHER_CTX_new() else { fatalError("no memory for a cipher context") }
            unsafe self.context = unsafe context
            let cipher =
                switch algorithm {
                case .aes128CBC: unsafe EVP_aes_128_cbc()
                }
            unsafe precondition(key.count == Int(EVP_CIPHER_get_key_length(cipher)))
            let done = key.withBytes { key in
                unsafe key.withUnsafeBytes { key in
                    unsafe EVP_DecryptInit_ex(
                        context, cipher, nil, key.baseAddress?.assumingMemoryBound(to: UInt8.self), nil)
                }
            }
            unsafe precondition(done == 1 && EVP_CIPHER_CTX_set_padding(context, 0) == 1, "OpenSSL offers no AES")
        }

        // Frees and wipes the key schedule.
        deinit { unsafe EVP_CIPHER_CTX_free(context) }

        func decrypt(_ bytes: inout MutableRawSpan, iv: (UInt64, UInt64)) -> Bool {
            var iv = (iv.0.littleEndian, iv.1.littleEndian)
            let started = unsafe withUnsafeBytes(of: &iv) { iv in
                unsafe EVP_DecryptInit_ex(
                    context, nil, nil, nil, iv.baseAddress?.assumingMemoryBound(to: UInt8.self))
            }
            guard started == 1, let count = Int32(exactly: bytes.byteCount) else { return false }
            return unsafe bytes.withUnsafeMutableBytes { bytes in
                let start = unsafe bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
                var written: Int32 = 0
                return unsafe EVP_DecryptUpdate(context, start, &written, start, count) == 1 && written == count
            }
        }
    }
}
