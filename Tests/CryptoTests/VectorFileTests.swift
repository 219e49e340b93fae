// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Foundation
import Testing

/// What others computed: Python's `cryptography` and `hashlib` (Tests/Fixtures/ciphers/make-vectors), Linux and QEMU.
@Suite struct VectorFileTests {
    /// The lines of a kind, without the kind, as words.
    private static func lines(_ kind: String) throws -> [[String]] {
        try words(of: "vectors.txt").filter { $0.first == kind }.map { Array($0.dropFirst()) }
    }

    /// The lines of a file, as words.
    private static func words(of file: String) throws -> [[String]] {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Fixtures/ciphers/\(file)")
        return try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
            .map { $0.split(separator: " ").map(String.init) }
    }

    private static func digest(_ data: [UInt8], _ hash: String) throws -> [UInt8] {
        let hash = try HashAlgorithm(hash)
        var digest = [UInt8](repeating: 0, count: hash.digestSize)
        data.withBytes { data in digest.withMutableBytes { hash.hash(data, into: &$0) } }
        return digest
    }

    @Test func `ciphers decrypt as Python's do, sector by sector, and encrypt to what Python was given`() throws {
        let lines = try Self.lines("cipher")
        #expect(lines.count > 200)
        for line in lines {
            let numbers = line[1...4].compactMap { Int($0) }
            let (keySize, sectorSize, count, first) = (numbers[0], numbers[1], numbers[2], UInt64(numbers[3]))
            let key = secret(noise(keySize, seed: 7))
            let cipher = try CipherSpec(line[0]).makeCipher(key: key, sectorSize: sectorSize)
            let stored = noise(sectorSize * count, seed: first)
            let plain = try cipher.decrypted(stored, firstSector: first)
            #expect(try Self.digest(plain, "sha256").prefix(16) == bytes(line[5])[...], "\(line)")
            let isSame = try cipher.encrypted(plain, firstSector: first) == stored
            #expect(isSame, "\(line)")
        }
    }

    /// What was written through dm-crypt: Tests/Fixtures/ciphers/make-dm-crypt.
    @Test func `what is encrypted is byte for byte what dm-crypt stores`() throws {
        let lines = try Self.words(of: "dm-crypt.txt")
        #expect(lines.count > 1000)
        for line in lines {
            let numbers = try line[1...4].map { try #require(UInt64($0)) }
            let (sectorSize, first) = (Int(numbers[1]), numbers[3])
            let key = secret(noise(Int(numbers[0]), seed: 7))
            let cipher = try CipherSpec(line[0]).makeCipher(key: key, sectorSize: sectorSize)
            let plain = noise(sectorSize * Int(numbers[2]), seed: first)
            let stored = try cipher.encrypted(plain, firstSector: first)
            #expect(try Self.digest(stored, "sha256").prefix(16) == bytes(line[5])[...], "\(line)")
            let isSame = try cipher.decrypted(stored, firstSector: first) == plain
            #expect(isSame, "\(line)")
        }
    }

    /// What qemu-img stored: Tests/Fixtures/ciphers/make-qemu.
    @Test func `what is encrypted is byte for byte what qemu-img stores`() throws {
        let lines = try Self.words(of: "qemu.txt")
        #expect(lines.count == 8)
        for line in lines {
            let key = secret(bytes(line[1]))
            let cipher: any SectorCipher =
                line[0] == "legacy"
                ? LegacyAESCipher(key: key) : try CipherSpec(line[0]).makeCipher(key: key, sectorSize: 512)
            let plain = noise(try #require(Int(line[2])), seed: 5)
            let stored = try cipher.encrypted(plain, firstSector: 0)
            #expect(try Self.digest(stored, "sha256").prefix(16) == bytes(line[3])[...], "\(line)")
            let isSame = try cipher.decrypted(stored, firstSector: 0) == plain
            #expect(isSame, "\(line)")
        }
    }

    @Test func `hashes are those of Python`() throws {
        let lines = try Self.lines("hash")
        #expect(lines.count > 12)
        for line in lines { #expect(try Self.digest(noise(1000, seed: 3), line[0]) == bytes(line[1]), "\(line[0])") }
    }

    @Test func `split keys are merged as Python merges them`() throws {
        let lines = try Self.lines("split")
        #expect(lines.count > 60)
        for line in lines {
            let numbers = line[1...2].compactMap { Int($0) }
            let split = secret(noise(numbers[0] * numbers[1], seed: 5))
            let key = AntiForensic.merge(
                split, keySize: numbers[0], stripes: numbers[1], hash: try HashAlgorithm(line[0]))
            #expect(bytes(key) == bytes(line[3]), "\(line)")
        }
    }

    @Test(arguments: ["pbkdf2", "argon2i", "argon2id"])
    func `keys are derived as Python derives them`(kind: String) throws {
        let lines = try Self.lines(kind)
        #expect(lines.count >= 10)
        for line in lines {
            let numbers = line.compactMap { UInt32($0) }
            let function: KeyDerivation.Function =
                switch kind {
                case "pbkdf2": .pbkdf2(hash: line[0], iterations: UInt32(line[1]) ?? 0)
                case "argon2i": .argon2i(time: numbers[0], memory: numbers[1], lanes: numbers[2])
                default: .argon2id(time: numbers[0], memory: numbers[1], lanes: numbers[2])
                }
            let length = Int(line[line.count - 2]) ?? 0
            let expected = bytes(line[line.count - 1])
            let key = try KeyDerivation(function, salt: noise(32, seed: 11)).derive(
                from: secret(noise(length, seed: 9)), count: expected.count, limits: .init())
            #expect(bytes(key) == expected, "\(line)")
        }
    }
}
