// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import COpenSSL

/// A block cipher of OpenSSL in a mode, with its key; any number of threads may use it at the same time.
///
/// Setting a key costs more than decrypting a sector, so each thread borrows a context that has it already. A context goes
/// one way.
@safe
final class OpenSSLCipher: LibraryCipher {
    private let pool = Locked(IdleContexts())
    private let name: String
    private let key: Secret

    /// - Parameters:
    ///   - name: as OpenSSL has it, e.g. "AES-128-CBC".
    ///   - direction: the usual one: a context for it is made at once, so that a key that OpenSSL does not take is known.
    /// - Returns: nil when OpenSSL does not have it for a key of this length.
    init?(_ name: String, _ direction: CipherDirection, key: Secret) {
        guard let first = Context(name, direction, key) else { return nil }
        self.name = name
        self.key = key
        pool.withLock { $0.giveBack(first) }
    }

    /// Whether OpenSSL has a cipher with this name for keys of `keySize` bytes.
    static func offers(_ name: String, keySize: Int) -> Bool {
        guard let cipher = unsafe EVP_CIPHER_fetch(nil, name, nil) else {
            ERR_clear_error()
            return false
        }
        defer { unsafe EVP_CIPHER_free(cipher) }
        return unsafe Int(EVP_CIPHER_get_key_length(cipher)) == keySize
    }

    func transform(
        _ bytes: inout MutableRawSpan, _ direction: CipherDirection, unit: Int, vectors: borrowing VectorBatch
    ) throws(BlockError) {
        guard let context = pool.withLock({ $0.take(direction) }) ?? Context(name, direction, key) else {
            throw .inputOutput("cipher \(name): OpenSSL has no memory for a context")
        }
        defer { pool.withLock { $0.giveBack(context) } }
        guard context.transform(&bytes, unit: unit, vectors: vectors) else {
            throw .inputOutput("cipher \(name): OpenSSL refused \(bytes.byteCount) bytes")
        }
    }

    /// Contexts that no thread uses.
    private struct IdleContexts {
        private var decrypting: [Context] = []
        private var encrypting: [Context] = []

        mutating func take(_ direction: CipherDirection) -> Context? {
            switch direction {
            case .decrypt: decrypting.popLast()
            case .encrypt: encrypting.popLast()
            }
        }

        mutating func giveBack(_ context: Context) {
            switch context.direction {
            case .decrypt: decrypting.append(context)
            case .encrypt: encrypting.append(context)
            }
        }
    }

    /// One EVP_CIPHER_CTX. The pool hands it to one thread at a time, which makes it safe to send.
    @safe
    private final class Context: @unchecked Sendable {
        let direction: CipherDirection
        private let context: OpaquePointer

        init?(_ name: String, _ direction: CipherDirection, _ key: Secret) {
            // Outside of the secure heap: the first call has OpenSSL make its tables, which are large and not secret.
            guard OpenSSLCipher.offers(name, keySize: key.count),
                let cipher = unsafe EVP_CIPHER_fetch(nil, name, nil)
            else { return nil }
            defer { unsafe EVP_CIPHER_free(cipher) }
            let made: OpaquePointer? = unsafe SecureHeap.use {
                guard let context = unsafe EVP_CIPHER_CTX_new() else { return nil }
                let done = key.withBytes { key in
                    unsafe key.withUnsafeBytes { key in
                        unsafe EVP_CipherInit_ex(
                            context, cipher, nil, key.baseAddress?.assumingMemoryBound(to: UInt8.self), nil,
                            direction == .encrypt ? 1 : 0)
                    }
                }
                guard unsafe done == 1 && EVP_CIPHER_CTX_set_padding(context, 0) == 1 else {
                    unsafe EVP_CIPHER_CTX_free(context)
                    return nil
                }
                return unsafe context
            }
            guard let made = unsafe made else { return nil }
            self.direction = direction
            unsafe self.context = unsafe made
        }

        // Frees and wipes the key schedule.
        deinit { unsafe EVP_CIPHER_CTX_free(context) }

        func transform(_ bytes: inout MutableRawSpan, unit: Int, vectors: borrowing VectorBatch) -> Bool {
            guard let unitCount = Int32(exactly: unit) else { return false }
            let vectorSize = vectors.size
            return unsafe vectors.withStart { vector in
                unsafe bytes.withUnsafeMutableBytes { bytes in
                    var vector = unsafe vector
                    var written: Int32 = 0
                    for start in stride(from: 0, to: bytes.count, by: unit) {
                        let place = unsafe bytes.baseAddress?.advanced(by: start).assumingMemoryBound(to: UInt8.self)
                        guard unsafe setVector(vector),
                            unsafe EVP_CipherUpdate(context, place, &written, place, unitCount) == 1,
                            written == unitCount
                        else { return false }
                        unsafe vector = vector?.advanced(by: vectorSize)
                    }
                    return true
                }
            }
        }

        private func setVector(_ vector: UnsafeRawPointer?) -> Bool {
            guard let vector = unsafe vector?.assumingMemoryBound(to: UInt8.self) else { return true }
            return unsafe EVP_CipherInit_ex(context, nil, nil, nil, vector, -1) == 1
        }
    }
}
