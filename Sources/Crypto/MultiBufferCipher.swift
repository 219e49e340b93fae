// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import CMultiBuffer

/// AES in CBC mode that encrypts several sectors side by side, where the machine has the library for it; all else is done by
/// another ``LibraryCipher`` with the same key. Any number of threads may use it at the same time.
///
/// In a chain, a block waits for the one before, and the processor waits with it; with eight chains at once it does not. See
/// docs/decisions/0014-cipher-libraries.md.
@safe
final class MultiBufferCipher: LibraryCipher {
    private let pool = Locked<[Worker]>([])
    private let key: Secret
    private let other: any LibraryCipher

    /// Whether several sectors are encrypted side by side here. The first call loads a library, so that whoever only reads
    /// does without.
    static let isThere = multi_buffer_is_there()

    /// - Parameters:
    ///   - other: AES in CBC mode with the same key.
    ///   - key: 16, 24 or 32 bytes.
    init(_ other: any LibraryCipher, key: Secret) {
        self.other = other
        self.key = key
    }

    func transform(
        _ bytes: inout MutableRawSpan, _ direction: CipherDirection, unit: Int, vectors: borrowing VectorBatch
    ) throws(BlockError) {
        guard direction == .encrypt, bytes.byteCount > unit, Self.isThere,
            let worker = pool.withLock({ $0.popLast() }) ?? Worker(key)
        else { return try other.transform(&bytes, direction, unit: unit, vectors: vectors) }
        defer { pool.withLock { $0.append(worker) } }
        guard worker.encrypt(&bytes, unit: unit, vectors: vectors) else {
            throw .inputOutput("cipher aes-cbc: libIPSec_MB refused \(bytes.byteCount) bytes in units of \(unit)")
        }
    }

    /// The key with what the library makes of it, 200 KB of ``WipedBytes``. The pool hands it to one thread at a time, which
    /// makes it safe to send.
    @safe
    private final class Worker: @unchecked Sendable {
        private let worker: OpaquePointer

        init?(_ key: Secret) {
            var isProtected = false
            // What the library leaves of the key on the stack is wiped.
            let made: OpaquePointer? = unsafe SecureHeap.use {
                unsafe key.withBytes { key in
                    unsafe key.withUnsafeBytes { key in
                        unsafe multi_buffer_make(key.baseAddress, key.count, &isProtected)
                    }
                }
            }
            guard let made = unsafe made else { return nil }
            if !isProtected { WipedBytes.noteLockHasFailed() }
            unsafe self.worker = unsafe made
        }

        deinit { unsafe multi_buffer_release(worker) }

        func encrypt(_ bytes: inout MutableRawSpan, unit: Int, vectors: borrowing VectorBatch) -> Bool {
            let count = bytes.byteCount / unit
            guard vectors.size == 16, vectors.count >= count, count * unit == bytes.byteCount else { return false }
            return unsafe vectors.withStart { vector in
                unsafe bytes.withUnsafeMutableBytes { bytes in
                    unsafe multi_buffer_encrypt(worker, bytes.baseAddress, unit, count, vector)
                }
            }
        }
    }
}
