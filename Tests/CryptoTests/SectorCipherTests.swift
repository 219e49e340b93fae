// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Testing

@Suite struct SectorCipherTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let algorithm: String
        let mode: PlainCipher.Mode
        let rule: String
        let keySize: Int

        var specification: String {
            mode == .ecb ? "\(algorithm)-ecb" : "\(algorithm)-\(mode)-\(rule)"
        }
        var testDescription: String { "\(specification), key of \(keySize)" }
    }

    /// Every cipher in every mode with every vector and key size.
    static let cases: [Case] = {
        let ciphers: [(String, [Int], [PlainCipher.Mode])] = [
            ("aes", [16, 24, 32], [.xts, .cbc, .ecb, .ctr, .lrw]),
            ("serpent", [16, 24, 32], [.xts, .cbc, .ecb, .ctr, .lrw]),
            ("twofish", [16, 24, 32], [.xts, .cbc, .ecb, .ctr, .lrw]),
            ("camellia", [16, 24, 32], [.xts, .cbc, .ecb, .ctr, .lrw]),
            ("sm4", [16], [.xts, .cbc, .ecb, .ctr, .lrw]), ("cast5", [16], [.cbc, .ecb, .ctr]),
            ("blowfish", [16, 32], [.cbc, .ecb, .ctr]), ("des3_ede", [24], [.cbc, .ecb, .ctr]),
        ]
        return ciphers.flatMap { algorithm, sizes, modes in
            modes.flatMap { mode -> [Case] in
                var rules = ["plain", "plain64", "plain64be", "null", "benbi"]
                if mode != .ctr { rules.append("eboiv") }
                switch algorithm {
                case "sm4", "cast5": rules.append("essiv:md5")
                case "des3_ede": break
                case "blowfish": rules += ["essiv:sha256", "essiv:md5", "essiv:wp384"]
                default: rules += ["essiv:sha256", "essiv:md5", "essiv:wp256"]
                }
                if mode == .ecb { rules = ["null"] }
                return rules.flatMap { rule in
                    sizes.map { size in
                        let keySize = mode == .xts ? 2 * size : mode == .lrw ? size + 16 : size
                        return Case(algorithm: algorithm, mode: mode, rule: rule, keySize: keySize)
                    }
                }
            }
        }
    }()

    @Test(arguments: cases)
    func `decrypting many sectors equals one library call for each`(_ wanted: Case) throws {
        let key = noise(wanted.keySize, seed: 7)
        let specification = try CipherSpec(wanted.specification)
        try specification.check(keySize: wanted.keySize)
        let plainCipher = try #require(PlainCipher(wanted.algorithm, wanted.mode, key: key))
        for (sectorSize, sectors, first) in [
            (512, 1, 0), (512, 130, 0xFFFF_FFF0), (1024, 3, 6), (2048, 3, 1 << 40), (4096, 3, 0xFFFF_FFF8),
            (512, 3, UInt64.max - 1),
        ] as [(Int, Int, UInt64)] {
            let plain = noise(sectors * sectorSize, seed: first | 1)
            let encrypted = plainCipher.encrypt(plain, rule: wanted.rule, firstSector: first, sectorSize: sectorSize)
            let cipher = try specification.makeCipher(key: secret(key), sectorSize: sectorSize)
            #expect(cipher.sectorSize == sectorSize)
            // Not with ==, whose message would be megabytes long.
            let isEqual = try cipher.decrypted(encrypted, firstSector: first) == plain
            #expect(isEqual, "sectors of \(sectorSize) from \(first)")
        }
    }

    @Test func `many threads can use one cipher`() async throws {
        for specification in [
            "aes-xts-plain64", "serpent-cbc-essiv:sha256", "aes-cbc-eboiv", "aes-lrw-benbi", "twofish-cbc-plain64",
        ] {
            let key = noise(specification.hasPrefix("twofish") ? 24 : 32)
            let cipher = try CipherSpec(specification).makeCipher(key: secret(key), sectorSize: 512)
            let data = noise(512 * 100)
            let expected = try (0..<16).map { try cipher.decrypted(data, firstSector: UInt64($0)) }
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for sector in 0..<16 {
                    group.addTask { try cipher.decrypted(data, firstSector: UInt64(sector)) == expected[sector] }
                }
                for try await isEqual in group { #expect(isEqual) }
            }
        }
    }
}
