// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Testing

/// Keys, key schedules and passphrases may be in locked memory that is left out of dumps, and nowhere else.
@Suite(.serialized) struct SecureHeapTests {
    /// Random bytes that no array ever held.
    private func random(_ count: Int) -> Secret {
        var generator = SystemRandomNumberGenerator()
        return Secret(count: count) { bytes in
            for index in 0..<count {
                bytes.storeBytes(of: UInt8.random(in: 0...255, using: &generator), toByteOffset: index, as: UInt8.self)
            }
        }
    }

    /// 16 bytes of `secret` from `start` on.
    private func piece(_ secret: Secret, _ start: Int) -> Secret {
        secret.withBytes { bytes in
            Secret(count: 16) { $0.copy(from: bytes.extracting(start..<(start + 16))) }
        }
    }

    /// The key of the third round of AES-256: the first that is not part of the key. FIPS 197, section 5.2.
    private func thirdRoundKey(_ key: Secret) -> Secret {
        key.withBytes { key in
            Secret(count: 16) { round in
                for index in 0..<16 {
                    let before =
                        index < 4
                        ? Self.substitute(key.byte(at: 28 + (index + 1) % 4)) : round.bytes.byte(at: index - 4)
                    let constant: UInt8 = index == 0 ? 1 : 0
                    round.storeBytes(of: key.byte(at: index) ^ before ^ constant, toByteOffset: index, as: UInt8.self)
                }
            }
        }
    }

    /// SubBytes: the inverse in GF(2^8), which is the 254th power, and an affine transformation.
    private static func substitute(_ byte: UInt8) -> UInt8 {
        func product(_ a: UInt8, _ b: UInt8) -> UInt8 {
            var (a, b, result) = (a, b, UInt8(0))
            while b > 0 {
                if b & 1 == 1 { result ^= a }
                a = a & 0x80 == 0 ? a << 1 : (a << 1) ^ 0x1B
                b >>= 1
            }
            return result
        }
        let inverse = (0..<253).reduce(byte) { power, _ in product(power, byte) }
        var result = inverse ^ 0x63
        for shift: UInt8 in 1...4 {
            let rotated: UInt8 = inverse << shift | inverse >> (8 - shift)
            result ^= rotated
        }
        return result
    }

    @Test func `the S-box of this test is that of AES`() {
        #expect(Self.substitute(0) == 0x63 && Self.substitute(0x53) == 0xED && Self.substitute(0xFF) == 0x16)
    }

    @Test func `the search finds what lies in ordinary memory`() {
        let needle = random(16)
        #expect(ProcessMemory.leaks(of: [("needle", needle)]) == [])
        let copy = bytes(needle)
        #expect(!ProcessMemory.leaks(of: [("needle", needle)]).isEmpty)
        #expect(copy.count == 16)
    }

    @Test func `the heap is locked`() {
        #expect(SecureHeap.isLocked)
    }

    @Test(arguments: [
        ("aes-xts-plain64", 64), ("aes-xts-essiv:sha256", 64), ("aes-xts-eboiv", 64), ("aes-cbc-plain64", 32),
        ("aes-cbc-essiv:sha256", 32), ("aes-cbc-eboiv", 32), ("aes-ecb", 32), ("aes-ctr-plain64", 32),
        ("serpent-xts-plain64", 64), ("twofish-cbc-plain", 32), ("camellia-cbc-essiv:sha256", 32),
        ("camellia-ctr-plain64", 32), ("aria-cbc-plain64", 32), ("cast5-cbc-plain64", 16), ("des3_ede-cbc-plain64", 24),
        ("aes-lrw-benbi", 48), ("aes-lrw-plain64be", 48), ("twofish-xts-plain64", 48), ("twofish-cbc-eboiv", 24),
        ("aes-cbc-essiv:wp256", 32),
    ])
    func `keys and round keys are in protected memory alone`(specification: String, keySize: Int) async throws {
        let key = random(keySize)
        let cipher = try CipherSpec(specification).makeCipher(key: key, sectorSize: 512)
        // Of a key that is not a multiple of 16 bytes, its end too.
        let starts = Set(stride(from: 0, to: keySize - 15, by: 16)).union([keySize - 16]).sorted()
        var needles = starts.map { ("key bytes from \($0)", piece(key, $0)) }
        if specification.hasPrefix("aes") {
            needles.append(("third round key", thirdRoundKey(key)))
            if keySize == 64 {
                let second = key.withBytes { key in Secret(count: 32) { $0.copy(from: key.extracting(32..<64)) } }
                needles.append(("third round key of the second key", thirdRoundKey(second)))
            }
        }
        let data = noise(512 * 200)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask { _ = try cipher.decrypted(data, firstSector: 1) }
                group.addTask { _ = try cipher.encrypted(data, firstSector: 1) }
            }
            try await group.waitForAll()
        }
        #expect(ProcessMemory.leaks(of: needles) == [])
        // So that the cipher is alive until here.
        _ = try cipher.decrypted(data, firstSector: 1)
        #expect(ProcessMemory.leaks(of: needles) == [])
    }

    @Test(
        arguments: [
            .pbkdf2(hash: "sha1", iterations: 1000), .pbkdf2(hash: "sha256", iterations: 1000),
            .pbkdf2(hash: "sha512", iterations: 1), .pbkdf2(hash: "sha3-256", iterations: 10),
            .pbkdf2(hash: "whirlpool", iterations: 10), .pbkdf2(hash: "ripemd160", iterations: 10),
            .pbkdf2(hash: "blake2b-512", iterations: 10), .pbkdf2(hash: "sm3", iterations: 10),
            .argon2i(time: 4, memory: 64, lanes: 4), .argon2id(time: 4, memory: 1 << 15, lanes: 4),
        ] as [KeyDerivation.Function])
    func `passphrases and derived keys are in protected memory alone`(function: KeyDerivation.Function) throws {
        for length in [20, 300] {
            let passphrase = random(length)
            let key = try KeyDerivation(function, salt: noise(32)).derive(
                from: passphrase, count: 64, limits: KeyDerivationLimits())
            let leaks = ProcessMemory.leaks(of: [
                ("passphrase", piece(passphrase, 0)), ("end of passphrase", piece(passphrase, length - 16)),
                ("key", piece(key, 0)), ("end of key", piece(key, 48)),
            ])
            #expect(leaks == [])
        }
    }

    @Test(arguments: ["sha1", "sha256", "sha512", "whirlpool", "blake2b-512", "sha3-512", "ripemd160", "stribog512"])
    func `split keys and merged keys are in protected memory alone`(hash: String) throws {
        let split = random(64 * 100)
        let key = AntiForensic.merge(split, keySize: 64, stripes: 100, hash: try HashAlgorithm(hash))
        let needles = [
            ("start of split key", piece(split, 0)), ("middle", piece(split, 64 * 50)),
            ("end of split key", piece(split, 64 * 99 + 48)), ("key", piece(key, 0)), ("end of key", piece(key, 48)),
        ]
        #expect(ProcessMemory.leaks(of: needles) == [])
    }
}
