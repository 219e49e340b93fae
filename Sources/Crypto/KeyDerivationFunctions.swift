// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import CArgon2
import CGcrypt
import CSecureHeap
import Glibc

extension KeyDerivation {
    /// Derives a key of `count` bytes, which may take seconds and gigabytes.
    ///
    /// PBKDF2 by libgcrypt, argon2 by libargon2 with as many threads as the image has lanes and the machine processors.
    /// - Throws: ``UnlockError`` (refused): see ``check(_:)``; or there is not enough memory for argon2 now.
    public func derive(
        from passphrase: Secret, count: Int, limits: KeyDerivationLimits
    ) throws(UnlockError) -> Secret {
        try check(limits)
        guard (1...Self.maximumCount).contains(count) else {
            throw .refused("key derivation \(self): asked for \(count) bytes, allowed 1 to \(Self.maximumCount)")
        }
        switch function {
        case .pbkdf2(let hash, let iterations):
            return try pbkdf2(passphrase, count, hash, iterations)
        case .argon2i(let time, let memory, let lanes):
            return try argon2(passphrase, count, time, memory, lanes, isHybrid: false)
        case .argon2id(let time, let memory, let lanes):
            return try argon2(passphrase, count, time, memory, lanes, isHybrid: true)
        }
    }

    /// The longest key that is derived, in bytes; LUKS needs 64.
    static var maximumCount: Int { 512 }

    /// Of this machine, as many as are in use.
    static var processors: UInt32 { UInt32(clamping: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

    private func pbkdf2(
        _ passphrase: Secret, _ count: Int, _ hash: String, _ iterations: UInt32
    ) throws(UnlockError) -> Secret {
        let algorithm: HashAlgorithm
        do { algorithm = try HashAlgorithm(hash) } catch { throw .refused("key derivation \(self): \(error)") }
        var result: gcry_error_t = 0
        let key = passphrase.withBytes { passphrase in
            Secret(count: count) { key in
                result = SecureHeap.use {
                    unsafe passphrase.withUnsafeBytes { passphrase in
                        unsafe key.withUnsafeMutableBytes { key in
                            unsafe gcry_kdf_derive(
                                passphrase.baseAddress, passphrase.count, Int32(GCRY_KDF_PBKDF2.rawValue),
                                algorithm.identifier, salt, salt.count, UInt(iterations), key.count, key.baseAddress)
                        }
                    }
                }
            }
        }
        guard result == 0 else {
            let reason = unsafe String(cString: gcry_strerror(result))
            throw .refused("key derivation \(self): libgcrypt refused it (\(reason))")
        }
        return key
    }

    private func argon2(
        _ passphrase: Secret, _ count: Int, _ time: UInt32, _ memory: UInt32, _ lanes: UInt32, isHybrid: Bool
    ) throws(UnlockError) -> Secret {
        let available = AvailableMemory.now()
        guard UInt64(memory) <= available.bytes / 1024 else {
            throw .refused(
                "key derivation \(self): \(available.bytes / 1024) KiB are available (\(available.reason)); free "
                    + "memory or open the image on a larger machine, \(remedy: .derivationMemory) would not help")
        }
        var result: Int32 = 0
        let key = passphrase.withBytes { passphrase in
            Secret(count: count) { key in
                result = unsafe passphrase.withUnsafeBytes { passphrase in
                    unsafe key.withUnsafeMutableBytes { key in
                        unsafe salt.withUnsafeBytes { salt in
                            var request = unsafe secure_argon2_request(
                                with_data_independent_start: isHybrid, time: time, memory: memory, lanes: lanes,
                                threads: min(lanes, Self.processors), passphrase: passphrase.baseAddress,
                                passphrase_count: passphrase.count, salt: salt.baseAddress, salt_count: salt.count,
                                key: key.baseAddress, key_count: key.count)
                            return unsafe secure_argon2(&request)
                        }
                    }
                }
            }
        }
        guard result == 0 else {
            let reason = unsafe String(cString: argon2_error_message(result))
            throw .refused("key derivation \(self): libargon2 refused it (\(reason))")
        }
        return key
    }
}
