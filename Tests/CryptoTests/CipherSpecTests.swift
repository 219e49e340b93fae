// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Testing

@Suite struct CipherSpecTests {
    private func refusal(_ specification: String) -> FormatError? {
        do {
            _ = try CipherSpec(specification)
            return nil
        } catch { return error }
    }

    @Test(arguments: [
        ("xchacha12,aes-adiantum-plain64", "xchacha12,aes"), ("cast5-lrw-benbi", "lrw"), ("aes:64-cbc-lmk", "keys"),
        ("aes-cbc-lmk", "\"lmk\""), ("aes-cbc-tcw", "\"tcw\""), ("aes-gcm-random", "\"gcm\""),
        ("aes-cbc-random", "\"random\""), ("aes-cbc-elephant", "\"elephant\""), ("rot13-cbc-plain", "\"rot13\""),
        ("cast6-xts-plain64", "Botan dropped it in version 3"),
        ("aes-xts", "needs a vector"), ("aes-cbc", "needs a vector"), ("aes-cbc-essiv", "\"essiv\""),
        ("aes-cbc-essiv:crc32", "crc32"), ("aes-cbc-plain65", "\"plain65\""), ("AES-xts-plain64", "\"AES\""),
        ("", "\"\""), ("-", "\"\""), ("--", "\"\""), ("aes--plain", "\"\""), ("aes-xts-", "\"\""),
        ("cast5-xts-plain64", "no library"), ("des3_ede-xts-plain", "no library"), ("aes-lrw", "needs a vector"),
        ("aes-ecb-essiv:sha256", "no vector"), ("aes-ctr-eboiv", "not defined"), ("capi:", "missing"),
        ("capi:aes-plain64", "missing"), ("capi:xts(aes)", "needs a vector"), ("capi:xts(aes)plain64", "vector"),
        ("capi:lrw(aes)-plain65", "\"plain65\""), ("aes-cbc-essiv:", "\"\""), ("aes-cbc-essiv:sha256:x", "sha256:x"),
        ("aes-cbc-random:x", "\"random\""), ("capi:rfc7539(chacha20,poly1305)-random", "mode"),
        ("capi:essiv(cbc(aes),sha256)-plain", "essiv needs"), ("capi:essiv(cbc(aes))-plain64", "essiv needs"),
        ("capi:adiantum(xchacha12,aes)-plain64", "mode"), ("capi:xts()-plain64", "\"\""),
        ("aes\nxts\u{7}-plain64", #""aes\u{A}xts\u{7}-plain64""#),
        ("capi:xts(aes-\u{1B}[31m)-plain64", #"aes-\u{1B}[31m"#), ("aes-xts-plain64 ", "punctuation"),
        ("cipher_null-cbc-plain", "cipher_null"),
        (String(repeating: "a", count: 5000), "5000 bytes"),
    ])
    func `what cannot be built is refused by name`(specification: String, says: String) throws {
        let error = try #require(refusal(specification))
        #expect(error.code == .unsupported)
        #expect(error.description.contains(says), "\(error)")
        #expect(error.description.utf8.count < 700)
        #expect(!error.description.contains("\n"))
    }

    @Test func `a refusal lists what can be built`() throws {
        let error = try #require(refusal("rot13-cbc-plain"))
        for name in ["aes (xts, cbc, ecb, ctr, lrw)", "serpent", "cast5 (cbc, ecb, ctr)", "essiv:HASH", "eboiv"] {
            #expect(error.description.contains(name))
        }
        #expect(error.description.contains(CipherSpec.supported))
    }

    @Test(arguments: [
        ("capi:xts(aes)-plain64", "aes-xts-plain64", 64), ("capi:xts(ecb(aes-generic))-plain64", "aes-xts-plain64", 32),
        ("capi:cbc(aes)-eboiv", "aes-cbc-eboiv", 32), ("capi:cbc(aes)-essiv:sha256", "aes-cbc-essiv:sha256", 16),
        ("capi:essiv(cbc(aes),sha256)-plain64", "aes-cbc-essiv:sha256", 32), ("capi:ecb(aes)", "aes-ecb", 32),
        ("aes-ecb-plain64", "aes-ecb", 16), ("aes-ecb-null", "aes-ecb", 16), ("aes", "aes-cbc-plain", 32),
        ("aes-plain", "aes-cbc-plain", 24), ("capi:lrw(aes)-benbi", "aes-lrw-benbi", 48),
        // Options that mean nothing, and vectors in a mode that has none: dm-crypt ignores them.
        ("aes-xts-plain64:sha256", "aes-xts-plain64", 64), ("aes-xts-plain64:", "aes-xts-plain64", 64),
        ("aes-xts-plain64:rot13:x", "aes-xts-plain64", 64), ("aes-xts-plain:sha1", "aes-xts-plain", 64),
        ("aes-cbc-plain:sha256", "aes-cbc-plain", 32), ("aes-xts-plain64be:x", "aes-xts-plain64be", 64),
        ("aes-cbc-null:sha256", "aes-cbc-null", 32), ("aes-cbc-benbi:3", "aes-cbc-benbi", 32),
        ("aes-ctr-benbi:x", "aes-ctr-benbi", 32), ("aes-lrw-benbi:x", "aes-lrw-benbi", 32),
        ("aes-cbc-eboiv:x", "aes-cbc-eboiv", 32), ("capi:xts(aes)-plain64:sha256", "aes-xts-plain64", 64),
        ("capi:essiv(cbc(aes),wp256)-plain64:x", "aes-cbc-essiv:wp256", 32), ("aes-ecb-eboiv", "aes-ecb", 32),
        ("aes-ecb-plain64:sha256", "aes-ecb", 32), ("aes-ecb-elephant", "aes-ecb", 32),
        ("capi:ctr(serpent)-plain64", "serpent-ctr-plain64", 32),
    ])
    func `two names of one thing decrypt and encrypt alike`(one: String, other: String, keySize: Int) throws {
        let key = secret(noise(keySize))
        let data = noise(512 * 9)
        let (first, second) = (try CipherSpec(one), try CipherSpec(other))
        #expect(first.description == one)
        let one = try first.makeCipher(key: key, sectorSize: 512)
        let other = try second.makeCipher(key: key, sectorSize: 512)
        let left = try one.decrypted(data, firstSector: 1 << 33)
        #expect(try left == other.decrypted(data, firstSector: 1 << 33))
        #expect(left != data)
        #expect(try one.encrypted(data, firstSector: 1 << 33) == other.encrypted(data, firstSector: 1 << 33))
    }

    @Test(arguments: [(false, 512), (true, 32)])
    func `benbi in CTR mode counts otherwise in a keyslot's area`(isKeyslotArea: Bool, blocks: UInt64) throws {
        let key = secret(noise(32))
        let benbi = try CipherSpec("aes-ctr-benbi").makeCipher(
            key: key, sectorSize: 512, isKeyslotArea: isKeyslotArea)
        let plain = try CipherSpec("aes-ctr-plain64be").makeCipher(key: key, sectorSize: 512)
        let expected = try plain.decrypted(noise(512), firstSector: 7 * blocks + 1)
        #expect(try benbi.decrypted(noise(512), firstSector: 7) == expected)
    }

    @Test(arguments: ["cipher_null-ecb", "cipher_null", "null-ecb"])
    func `the null cipher changes nothing`(name: String) throws {
        let specification = try CipherSpec(name)
        #expect(specification.isNull)
        try specification.check(keySize: 0)
        let cipher = try specification.makeCipher(key: secret([]), sectorSize: 512)
        #expect(try cipher.decrypted(noise(1024), firstSector: 5) == noise(1024))
        #expect(try cipher.encrypted(noise(1024), firstSector: 5) == noise(1024))
        #expect(try !CipherSpec("aes-ecb").isNull)
    }

    @Test(arguments: [
        ("aes-xts-plain64", [32, 48, 64]), ("aes-cbc-plain64", [16, 24, 32]), ("twofish-xts-plain64", [32, 48, 64]),
        ("serpent-xts-plain64", [32, 48, 64]), ("cast5-cbc-plain64", [16]), ("sm4-xts-plain64", [32]),
        ("camellia-xts-plain64", [32, 48, 64]), ("aria-cbc-plain64", [16, 24, 32]), ("des3_ede-cbc-plain", [24]),
        ("aes-cbc-essiv:sha256", [16, 24, 32]), ("aes-cbc-essiv:sha1", []), ("aes-cbc-essiv:sha512", []),
        ("cast5-cbc-essiv:sha256", []), ("aes-xts-essiv:sha256", [32, 48, 64]),
        ("aes-lrw-benbi", [32, 40, 48]), ("sm4-lrw-plain64", [32]), ("aria-lrw-plain64", [32, 40, 48]),
        ("aes-cbc-essiv:wp256", [16, 24, 32]), ("aes-cbc-essiv:wp384", []), ("aes-cbc-essiv:wp512", []),
        ("blowfish-cbc-essiv:wp384", [16, 24, 32, 40, 48, 56]), ("blowfish-cbc-essiv:wp512", []),
    ])
    func `keys of other sizes are refused`(specification: String, sizes: [Int]) throws {
        let specification = try CipherSpec(specification)
        for size in [-1, 0, 1, 8, 15, 16, 17, 20, 24, 31, 32, 33, 40, 48, 56, 63, 64, 65, 96, 128, 4096, Int.max] {
            let accepted: Bool
            do {
                try specification.check(keySize: size)
                accepted = true
            } catch {
                accepted = false
                #expect(error.code == .unsupported && error.description.contains("\(specification)"))
                if (0...128).contains(size) {
                    #expect(throws: FormatError.self) {
                        _ = try specification.makeCipher(key: secret(noise(size)), sectorSize: 512)
                    }
                }
            }
            #expect(accepted == sizes.contains(size), "\(specification), \(size) bytes")
        }
    }

    @Test(arguments: [0, 1, 256, 511, 513, 768, 1536, 8192, -512])
    func `sectors of other sizes are refused`(sectorSize: Int) throws {
        let specification = try CipherSpec("aes-xts-plain64")
        #expect(throws: FormatError.self) {
            _ = try specification.makeCipher(key: secret(noise(64)), sectorSize: sectorSize)
        }
    }

    @Test func `an XTS key of equal halves is used, as the kernel does`() throws {
        let key = secret([UInt8](repeating: 7, count: 64))
        let cipher = try CipherSpec("aes-xts-plain64").makeCipher(key: key, sectorSize: 512)
        #expect(try cipher.decrypted(noise(512), firstSector: 0) != noise(512))
        #expect(try cipher.encrypted(cipher.decrypted(noise(512), firstSector: 0), firstSector: 0) == noise(512))
    }

    // IEEE 1619-2007, annex B, vectors 1 and 2; the data units are 32 bytes long, so here they start a sector.
    @Test(
        arguments: [
            (
                String(repeating: "00", count: 32), 0, String(repeating: "00", count: 32),
                "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e"
            ),
            (
                String(repeating: "11", count: 16) + String(repeating: "22", count: 16), 0x33_3333_3333,
                String(repeating: "44", count: 32), "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0"
            ),
        ] as [(String, UInt64, String, String)])
    func `XTS is that of IEEE 1619`(key: String, sector: UInt64, plain: String, encrypted: String) throws {
        let cipher = try CipherSpec("aes-xts-plain64").makeCipher(key: secret(bytes(key)), sectorSize: 512)
        let data = bytes(encrypted) + [UInt8](repeating: 0, count: 480)
        let whole = try cipher.decrypted(data, firstSector: sector)
        #expect(whole.prefix(32) == bytes(plain)[...])
        #expect(try cipher.encrypted(whole, firstSector: sector) == data)
    }

    // NIST SP 800-38A, F.1.1 and F.1.5.
    @Test(arguments: [
        ("2b7e151628aed2a6abf7158809cf4f3c", "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf"),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "f3eed1bdb5d2a03c064b5a7e3db181f8591ccb10d410ed26dc5ba74a31362870"
        ),
    ])
    func `ECB is that of NIST`(key: String, encrypted: String) throws {
        let cipher = try CipherSpec("aes-ecb").makeCipher(key: secret(bytes(key)), sectorSize: 512)
        let data = bytes(encrypted) + [UInt8](repeating: 0, count: 480)
        let plain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        let whole = try cipher.decrypted(data, firstSector: 3)
        #expect(whole.prefix(32) == bytes(plain)[...])
        #expect(try cipher.encrypted(whole, firstSector: 3) == data)
    }

    // IEEE P1619, draft 4, annex B, as crypto/testmgr.h of Linux has them: one block, whose number is the sector's here.
    @Test(
        arguments: [
            (
                "4562ac25f828176d4c268414b568018525 8e2a05e73e9d03ee5a830ccc094c87", 1,
                "f1b273cd65a3df5fe95d489254634eb8"
            ),
            (
                "59704714f557478cd779e80f548879440d 48f0b7b15a53ea1caa6b29c2cafbaf", 2,
                "00c82bae95bbcde5274f0769b260e136"
            ),
            (
                "d82a9134b26a565030fe69e2377f9847cd f90b160c648fb6b00d0d1bae85871f", 0x2_0000_0000,
                "76322183ed8ff182f9596203690e5e01"
            ),
            (
                "0f6aeff8d3d2bb152583f73c1f012874cac6bc354d4a6554 90ae61cf7baebdccade494c54a29ae70", 1,
                "9c0f152f55a2d8f0d67b8f9e282 2bc41"
            ),
        ] as [(String, UInt64, String)])
    func `LRW is that of IEEE P1619`(key: String, block: UInt64, encrypted: String) throws {
        let cipher = try CipherSpec("aes-lrw-plain64be").makeCipher(key: secret(bytes(key)), sectorSize: 512)
        let data = bytes(encrypted) + [UInt8](repeating: 0, count: 496)
        let plain = "30313233343536373839414243444546"
        let whole = try cipher.decrypted(data, firstSector: block)
        #expect(whole.prefix(16) == bytes(plain)[...])
        #expect(try cipher.encrypted(whole, firstSector: block) == data)
    }

    @Test func `Whirlpool cut short is for vectors alone`() {
        #expect(throws: FormatError.self) { try HashAlgorithm("wp256") }
        #expect(throws: FormatError.self) { try HashAlgorithm("wp384") }
    }

    // Those that Python does not have: twofish and serpent of their authors' submissions, ARIA of RFC 5794.
    @Test(arguments: [
        (
            "twofish-ecb", String(repeating: "00", count: 16), "9f589f5cf6122c32b6bfec2f2ae8c35a",
            String(repeating: "00", count: 16)
        ),
        (
            "twofish-ecb", "0123456789abcdeffedcba98765432100011223344556677", "cfd1d2e5a9be9cdf501f13b892bd2248",
            String(repeating: "00", count: 16)
        ),
        (
            "twofish-ecb", String(repeating: "00", count: 32), "57ff739d4dc92c1bd7fc01700cc8216f",
            String(repeating: "00", count: 16)
        ),
        (
            "serpent-ecb", "000102030405060708090a0b0c0d0e0f", "4c7d8a328072a22c823e4a1f3acda16d",
            "000102030405060708090a0b0c0d0e0f"
        ),
        (
            "serpent-ecb", "80" + String(repeating: "00", count: 31), "a223aa1288463c0e2be38ebd825616c0",
            String(repeating: "00", count: 16)
        ),
        (
            "aria-ecb", "000102030405060708090a0b0c0d0e0f", "d718fbd6ab644c739da95f3be6451778",
            "00112233445566778899aabbccddeeff"
        ),
    ])
    func `a block goes both ways as its specification says`(name: String, key: String, encrypted: String, plain: String)
        throws
    {
        let cipher = try CipherSpec(name).makeCipher(key: secret(bytes(key)), sectorSize: 512)
        let data = bytes(encrypted) + [UInt8](repeating: 0, count: 496)
        let whole = try cipher.decrypted(data, firstSector: 3)
        #expect(whole.prefix(16) == bytes(plain)[...])
        #expect(try cipher.encrypted(whole, firstSector: 3) == data)
    }

    // ISO/IEC 10118-3; RFC 6986, section 10.1.
    @Test(arguments: [
        (
            "whirlpool", "abc",
            """
            4e2448a4c6f486bb16b6562c73b4020bf3043e3a731bce721ae1b303d97e6d4c
            7181eebdb6c57e277d0e34957114cbd6c797fc9d95d8b582d225292076d4eef5
            """
        ),
        (
            "stribog256", "012345678901234567890123456789012345678901234567890123456789012",
            "9d151eefd8590b89daa6ba6cb74af9275dd051026bb149a452fd84e5e57b5500"
        ),
        (
            "streebog512", "012345678901234567890123456789012345678901234567890123456789012",
            """
            1b54d01a4af5b9d5cc3d86d68d285462b19abc2475222f35c085122be4ba1ffa
            00ad30f8767b3a82384c6574f024c311e2a481332b08ef7f41797891c1646f48
            """
        ),
    ])
    func `a hash is what its specification says`(name: String, text: String, digest: String) throws {
        let hash = try HashAlgorithm(name)
        var found = [UInt8](repeating: 0, count: hash.digestSize)
        Array(text.utf8).withBytes { text in found.withMutableBytes { hash.hash(text, into: &$0) } }
        #expect(found == bytes(digest))
    }

    @Test func `a hash that is not known is refused with the list of those that are`() throws {
        for name in ["crc32", "", "sha-256", String(repeating: "x", count: 1000)] {
            do {
                _ = try HashAlgorithm(name)
                Issue.record("\(name) was accepted")
            } catch {
                #expect(error.code == .unsupported && error.description.contains("sha256, sha384"))
                #expect(error.description.utf8.count < 600)
            }
        }
        #expect(try HashAlgorithm("SHA256") == HashAlgorithm("sha256"))
        #expect(try HashAlgorithm("rmd160").digestSize == 20)
    }
}
