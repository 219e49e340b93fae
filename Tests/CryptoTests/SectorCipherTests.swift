// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CMultiBuffer
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
    func `many sectors go both ways as by one library call for each`(_ wanted: Case) throws {
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
            let isDecrypted = try cipher.decrypted(encrypted, firstSector: first) == plain
            #expect(isDecrypted, "sectors of \(sectorSize) from \(first)")
            let isEncrypted = try cipher.encrypted(plain, firstSector: first) == encrypted
            #expect(isEncrypted, "sectors of \(sectorSize) from \(first)")
        }
    }

    /// Where batches of 64 sectors, 32 bits, 64 bits of bytes and 64 bits of sectors end.
    private static let starts: [UInt64] = [
        0, 1, 7, 65, 0xFFFF_FFC1, 0xFFFF_FFFF, 1 << 33 | 1, 1 << 55 - 3, 1 << 59 - 1, UInt64.max - 65, UInt64.max,
    ]

    @Test(arguments: cases)
    func `what is encrypted decrypts to itself, in any lengths from any sector on`(_ wanted: Case) throws {
        var generator = Steps(
            seed: UInt64(wanted.specification.utf8.reduce(wanted.keySize) { $0 * 31 % 9973 + Int($1) }))
        let key = secret(noise(wanted.keySize, seed: 3))
        for sectorSize in [512, 1024, 2048, 4096] {
            let cipher = try CipherSpec(wanted.specification).makeCipher(key: key, sectorSize: sectorSize)
            for _ in 0..<2 {
                let most = max(131_072 / sectorSize, 65)
                let sectors =
                    [1, 2, 64, 65, Int.random(in: 1...most, using: &generator)]
                    .randomElement(using: &generator) ?? 1
                let first = Self.starts.randomElement(using: &generator) ?? 0
                let place = Comment("\(sectors) sectors of \(sectorSize) from \(first)")
                let start = Int.random(in: 0...(Self.plaintext.count - sectors * sectorSize), using: &generator)
                let plain = Array(Self.plaintext[start..<(start + sectors * sectorSize)])
                let encrypted = try cipher.encrypted(plain, firstSector: first)
                #expect(Self.differ(encrypted, plain), place)
                let isSame = try cipher.decrypted(encrypted, firstSector: first) == plain
                #expect(isSame, place)
                // In two parts, the batches lie elsewhere.
                let cut = Int.random(in: 0...sectors, using: &generator) * sectorSize
                let later = first.addingReportingOverflow(UInt64(cut / 512)).partialValue
                let isIndependent =
                    try cipher.encrypted(Array(plain[..<cut]), firstSector: first)
                    + cipher.encrypted(Array(plain[cut...]), firstSector: later) == encrypted
                #expect(isIndependent, place)
            }
        }
    }

    /// No sector is the longer.
    private static let plaintext = noise(1 << 20, seed: 23)

    /// Not with !=, whose message would be megabytes long.
    private static func differ(_ left: [UInt8], _ right: [UInt8]) -> Bool { left != right }

    /// Numbers that are the same in every run.
    private struct Steps: RandomNumberGenerator {
        private var state: UInt64

        init(seed: UInt64) { state = seed }

        mutating func next() -> UInt64 {
            state = state.addingReportingOverflow(0x9E37_79B9_7F4A_7C15).partialValue
            let mixed = (state ^ (state >> 30)).multipliedReportingOverflow(by: 0xBF58_476D_1CE4_E5B9).partialValue
            return mixed ^ (mixed >> 27)
        }
    }

    /// Where several sectors are encrypted side by side, how many there are decides which are neighbours.
    @Test(arguments: [16, 24, 32], ["plain64", "essiv:sha256", "eboiv"])
    func `any number of sectors is encrypted as by one library call for each`(keySize: Int, rule: String) throws {
        let key = noise(keySize, seed: 11)
        let plainCipher = try #require(PlainCipher("aes", .cbc, key: key))
        for sectorSize in [512, 1024, 2048, 4096] {
            let cipher = try CipherSpec("aes-cbc-\(rule)").makeCipher(key: secret(key), sectorSize: sectorSize)
            let plain = Array(Self.plaintext[..<(130 * sectorSize)])
            let encrypted = plainCipher.encrypt(plain, rule: rule, firstSector: 8, sectorSize: sectorSize)
            for sectors in [Int](1...66) + [127, 128, 129, 130] {
                let count = sectors * sectorSize
                let isEncrypted =
                    try cipher.encrypted(Array(plain[..<count]), firstSector: 8) == Array(encrypted[..<count])
                #expect(isEncrypted, "\(sectors) sectors of \(sectorSize)")
            }
        }
    }

    /// Without it, all tests of it pass.
    @Test(.enabled(if: Self.isIntel)) func `sectors are encrypted side by side where the processor can`() {
        #expect(multi_buffer_is_there(), "install what scripts/bootstrap installs, and build again")
    }

    #if arch(x86_64)
        private static let isIntel = true
    #else
        private static let isIntel = false
    #endif

    @Test func `many threads can use one cipher in both ways`() async throws {
        for specification in [
            "aes-xts-plain64", "serpent-cbc-essiv:sha256", "aes-cbc-eboiv", "aes-lrw-benbi", "twofish-cbc-plain64",
            "twofish-cbc-eboiv", "aria-cbc-plain64", "aes-ecb", "aes-cbc-plain64",
        ] {
            let key = noise(specification.hasPrefix("twofish") ? 24 : 32)
            let cipher = try CipherSpec(specification).makeCipher(key: secret(key), sectorSize: 512)
            let data = noise(512 * 100)
            let expected = try (0..<16).map { try cipher.decrypted(data, firstSector: UInt64($0)) }
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for sector in 0..<16 {
                    group.addTask { try cipher.decrypted(data, firstSector: UInt64(sector)) == expected[sector] }
                    group.addTask { try cipher.encrypted(expected[sector], firstSector: UInt64(sector)) == data }
                }
                for try await isEqual in group { #expect(isEqual) }
            }
        }
    }
}
