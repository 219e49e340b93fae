// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import CGcrypt

/// A block cipher of libgcrypt in a mode, with its key; any number of threads may use it at the same time.
///
/// Setting a key costs more than decrypting a sector, so each thread borrows a handle that has it already. A handle goes
/// both ways: libgcrypt has room for either schedule in it, and makes the second one of AES when it is first needed.
@safe
final class GcryptCipher: LibraryCipher {
    private let pool = Locked<[Handle]>([])
    private let name: String
    private let mode: CipherMode
    private let key: Secret

    /// - Parameters:
    ///   - name: as libgcrypt has it, e.g. "SERPENT256".
    ///   - key: for XTS, both keys.
    /// - Returns: nil when libgcrypt does not have it in this mode or for a key of this length.
    init?(_ name: String, _ mode: CipherMode, key: Secret) {
        guard let first = Handle(name, mode, key) else { return nil }
        self.name = name
        self.mode = mode
        self.key = key
        pool.withLock { $0.append(first) }
    }

    /// Whether libgcrypt has the cipher in this mode for keys of `keySize` bytes: tried out with another key.
    static func offers(_ name: String, _ mode: CipherMode, keySize: Int) -> Bool {
        let key = Secret(count: keySize) { key in
            // Different bytes, so that no check for weak keys objects.
            for index in 0..<keySize {
                key.storeBytes(of: UInt8(truncatingIfNeeded: index * 37 + 1), toByteOffset: index, as: UInt8.self)
            }
        }
        return Handle(name, mode, key) != nil
    }

    func transform(
        _ bytes: inout MutableRawSpan, _ direction: CipherDirection, unit: Int, vectors: borrowing VectorBatch
    ) throws(BlockError) {
        guard let handle = pool.withLock({ $0.popLast() }) ?? Handle(name, mode, key) else {
            throw .inputOutput("cipher \(name): libgcrypt has no memory for a handle")
        }
        defer { pool.withLock { $0.append(handle) } }
        let error = handle.transform(&bytes, direction, unit: unit, vectors: vectors)
        guard error == 0 else {
            let reason = unsafe String(cString: gcry_strerror(error))
            throw .inputOutput("cipher \(name): libgcrypt refused \(bytes.byteCount) bytes (\(reason))")
        }
    }

    /// One gcry_cipher_hd_t. The pool hands it to one thread at a time, which makes it safe to send.
    @safe
    private final class Handle: @unchecked Sendable {
        private let handle: gcry_cipher_hd_t
        private let mode: CipherMode

        init?(_ name: String, _ mode: CipherMode, _ key: Secret) {
            let number =
                switch mode {
                case .ecb: GCRY_CIPHER_MODE_ECB
                case .cbc: GCRY_CIPHER_MODE_CBC
                case .ctr: GCRY_CIPHER_MODE_CTR
                case .xts: GCRY_CIPHER_MODE_XTS
                case .lrw: GCRY_CIPHER_MODE_NONE
                }
            guard number != GCRY_CIPHER_MODE_NONE else { return nil }
            let made: gcry_cipher_hd_t? = unsafe SecureHeap.use {
                var handle: gcry_cipher_hd_t?
                let algorithm = unsafe gcry_cipher_map_name(name)
                guard algorithm != 0,
                    unsafe gcry_cipher_open(
                        &handle, algorithm, Int32(number.rawValue), UInt32(GCRY_CIPHER_SECURE.rawValue)) == 0
                else { return nil }
                // Also a key that libgcrypt calls weak: the image has it, and what is written has to be read with it.
                unsafe gcry_cipher_ctl(handle, Int32(GCRYCTL_SET_ALLOW_WEAK_KEY.rawValue), nil, 1)
                let error = key.withBytes { key in
                    unsafe key.withUnsafeBytes { key in
                        unsafe gcry_cipher_setkey(handle, key.baseAddress, key.count)
                    }
                }
                guard error == 0 || gcry_err_code(error) == GPG_ERR_WEAK_KEY else {
                    unsafe gcry_cipher_close(handle)
                    return nil
                }
                return unsafe handle
            }
            guard let made = unsafe made else { return nil }
            unsafe self.handle = unsafe made
            self.mode = mode
        }

        // Frees and wipes the key schedule.
        deinit { unsafe gcry_cipher_close(handle) }

        func transform(
            _ bytes: inout MutableRawSpan, _ direction: CipherDirection, unit: Int, vectors: borrowing VectorBatch
        ) -> gcry_error_t {
            let vectorSize = vectors.size
            return unsafe vectors.withStart { vector in
                unsafe bytes.withUnsafeMutableBytes { bytes in
                    var vector = unsafe vector
                    for start in stride(from: 0, to: bytes.count, by: unit) {
                        let place = unsafe bytes.baseAddress?.advanced(by: start)
                        let error = unsafe transform(place, direction, unit, vector, vectorSize)
                        guard error == 0 else { return error }
                        unsafe vector = vector?.advanced(by: vectorSize)
                    }
                    return 0
                }
            }
        }

        private func transform(
            _ place: UnsafeMutableRawPointer?, _ direction: CipherDirection, _ count: Int,
            _ vector: UnsafeRawPointer?, _ vectorSize: Int
        ) -> gcry_error_t {
            if let vector = unsafe vector {
                let error =
                    switch mode {
                    case .ctr: unsafe gcry_cipher_setctr(handle, vector, vectorSize)
                    case .ecb, .cbc, .xts, .lrw: unsafe gcry_cipher_setiv(handle, vector, vectorSize)
                    }
                guard error == 0 else { return error }
            }
            return switch direction {
            case .decrypt: unsafe gcry_cipher_decrypt(handle, place, count, nil, 0)
            case .encrypt: unsafe gcry_cipher_encrypt(handle, place, count, nil, 0)
            }
        }
    }
}
