// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import CNettle

/// A block cipher of Nettle in a mode, with its key; any number of threads may use it at the same time.
///
/// Key schedules lie in a ``Secret`` and do not change, so all threads use the same. Each direction has its own.
@safe
final class NettleCipher: LibraryCipher, @unchecked Sendable {
    /// A constant of the library.
    private let cipher: UnsafePointer<nettle_cipher>
    private let mode: CipherMode
    private let key: Secret
    private let schedules: Locked<Schedules>

    /// For each direction that somebody went: the key schedule for data; of XTS, behind it that for tweaks.
    private struct Schedules {
        var decrypting: Secret?
        var encrypting: Secret?

        subscript(direction: CipherDirection) -> Secret? {
            get {
                switch direction {
                case .decrypt: decrypting
                case .encrypt: encrypting
                }
            }
            set {
                switch direction {
                case .decrypt: decrypting = newValue
                case .encrypt: encrypting = newValue
                }
            }
        }
    }

    /// - Parameters:
    ///   - name: as Nettle has it, e.g. "twofish192".
    ///   - key: for XTS, both keys.
    ///   - direction: the usual one, whose schedules are made at once.
    /// - Returns: nil when Nettle does not have it in this mode or for a key of this length.
    init?(_ name: String, _ mode: CipherMode, _ direction: CipherDirection, key: Secret) {
        guard let cipher = unsafe Self.find(name, mode, keySize: key.count) else { return nil }
        unsafe self.cipher = unsafe cipher
        self.mode = mode
        self.key = key
        self.schedules = Locked(Schedules())
        _ = keySchedules(direction)
    }

    /// The schedules of a direction, made when somebody first goes it.
    private func keySchedules(_ direction: CipherDirection) -> Secret {
        if let schedules = schedules.withLock({ $0[direction] }) { return schedules }
        // Two threads may both make them: what they make is the same.
        let made = makeSchedules(direction)
        schedules.withLock { $0[direction] = made }
        return made
    }

    private func makeSchedules(_ direction: CipherDirection) -> Secret {
        let (keySize, size) = unsafe (Int(cipher.pointee.key_size), Int(cipher.pointee.context_size))
        // CTR makes data of numbers by encrypting them, and so does XTS with tweaks.
        let isEncrypting = direction == .encrypt || mode == .ctr
        return Secret(count: key.count / keySize * size) { schedules in
            unsafe Self.setKey(cipher, key.prefix(keySize), isEncrypting: isEncrypting, &schedules, at: 0)
            if mode == .xts {
                unsafe Self.setKey(cipher, key.part(keySize..<key.count), isEncrypting: true, &schedules, at: size)
            }
        }
    }

    /// Whether Nettle has a cipher with this name in this mode for keys of `keySize` bytes.
    static func offers(_ name: String, _ mode: CipherMode, keySize: Int) -> Bool {
        unsafe find(name, mode, keySize: keySize) != nil
    }

    private static func find(_ name: String, _ mode: CipherMode, keySize: Int) -> UnsafePointer<nettle_cipher>? {
        // Vectors have 16 bytes below.
        guard mode != .lrw, let cipher = unsafe nettle_cipher_named(name), unsafe cipher.pointee.block_size == 16,
            unsafe keySize == Int(cipher.pointee.key_size) * (mode == .xts ? 2 : 1)
        else { return nil }
        return unsafe cipher
    }

    private static func setKey(
        _ cipher: UnsafePointer<nettle_cipher>, _ key: Secret, isEncrypting: Bool,
        _ schedules: inout MutableRawSpan, at place: Int
    ) {
        let set = unsafe isEncrypting ? cipher.pointee.set_encrypt_key : cipher.pointee.set_decrypt_key
        SecureHeap.use {
            unsafe schedules.withUnsafeMutableBytes { schedules in
                key.withBytes { key in
                    unsafe key.withUnsafeBytes { key in
                        unsafe set?(
                            schedules.baseAddress?.advanced(by: place),
                            key.baseAddress?.assumingMemoryBound(to: UInt8.self))
                    }
                }
            }
        }
    }

    func transform(
        _ bytes: inout MutableRawSpan, _ direction: CipherDirection, unit: Int, vectors: borrowing VectorBatch
    ) throws(BlockError) {
        let vectorSize = vectors.size
        keySchedules(direction).withBytes { schedules in
            unsafe vectors.withStart { vector in
                unsafe bytes.withUnsafeMutableBytes { bytes in
                    var vector = unsafe vector
                    for start in stride(from: 0, to: bytes.count, by: unit) {
                        let place = unsafe bytes.baseAddress?.advanced(by: start).assumingMemoryBound(to: UInt8.self)
                        // Nettle leaves the next vector in place of this one.
                        var chain = unsafe vector?.loadUnaligned(as: UInt128.self) ?? 0
                        unsafe withUnsafeMutableBytes(of: &chain) { chain in
                            unsafe transform(
                                place, direction, unit, chain.baseAddress?.assumingMemoryBound(to: UInt8.self),
                                schedules)
                        }
                        unsafe vector = vector?.advanced(by: vectorSize)
                    }
                }
            }
        }
    }

    private func transform(
        _ place: UnsafeMutablePointer<UInt8>?, _ direction: CipherDirection, _ count: Int,
        _ vector: UnsafeMutablePointer<UInt8>?, _ schedules: RawSpan
    ) {
        let (encrypt, decrypt) = unsafe (cipher.pointee.encrypt, cipher.pointee.decrypt)
        let (size, block) = unsafe (Int(cipher.pointee.context_size), Int(cipher.pointee.block_size))
        unsafe schedules.withUnsafeBytes { schedules in
            let key = schedules.baseAddress
            let tweakKey = unsafe key?.advanced(by: mode == .xts ? size : 0)
            switch (mode, direction) {
            case (.ecb, .decrypt): unsafe decrypt?(key, count, place, place)
            case (.ecb, .encrypt): unsafe encrypt?(key, count, place, place)
            case (.cbc, .decrypt): unsafe nettle_cbc_decrypt(key, decrypt, block, vector, count, place, place)
            case (.cbc, .encrypt): unsafe nettle_cbc_encrypt(key, encrypt, block, vector, count, place, place)
            case (.ctr, _): unsafe nettle_ctr_crypt(key, encrypt, block, vector, count, place, place)
            case (.xts, .decrypt):
                unsafe nettle_xts_decrypt_message(key, tweakKey, decrypt, encrypt, vector, count, place, place)
            case (.xts, .encrypt):
                unsafe nettle_xts_encrypt_message(key, tweakKey, encrypt, vector, count, place, place)
            case (.lrw, _): break
            }
        }
    }
}
