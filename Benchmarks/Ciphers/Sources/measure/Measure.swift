// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CLibrarySpeed
import Crypto

/// Prints how fast each library decrypts with each cipher in each mode, called in the best way that it has, and how
/// fast nbdecrypt does: GB/s on one core, the best of several rounds that alternate between the three. Then, how fast
/// nbdecrypt encrypts beside that.
@main
enum Measure {
    struct Row {
        let cipher: String
        let mode: String
        let keySize: Int
        let sectorSize: Int
        let openSSL: String
        let gcrypt: String
    }

    static let ciphers: [(name: String, keySize: Int, openSSL: String, gcrypt: String)] = [
        ("aes", 16, "AES-128", "AES"), ("aes", 32, "AES-256", "AES256"), ("serpent", 32, "", "SERPENT256"),
        ("twofish", 32, "", "TWOFISH"), ("camellia", 32, "CAMELLIA-256", "CAMELLIA256"), ("sm4", 16, "SM4", "SM4"),
        ("aria", 32, "ARIA-256", "ARIA256"), ("cast5", 16, "", "CAST5"), ("blowfish", 32, "", "BLOWFISH"),
        ("des3_ede", 24, "DES-EDE3", "3DES"),
    ]

    /// The usual ciphers, and one of each other way of encrypting.
    static let bothWays: [(specification: String, keySize: Int)] = [
        ("aes-xts-plain64", 32), ("aes-xts-plain64", 64), ("aes-cbc-essiv:sha256", 16), ("aes-cbc-essiv:sha256", 32),
        ("aes-cbc-plain64", 16), ("aes-ctr-plain64", 32), ("aes-ecb", 32), ("aes-lrw-benbi", 48),
        ("serpent-xts-plain64", 64), ("serpent-cbc-essiv:sha256", 32), ("twofish-xts-plain64", 64),
        ("twofish-xts-plain64", 48), ("aria-cbc-plain64", 32),
    ]

    static func main() throws {
        if CommandLine.arguments.count > 2 {
            return try one(
                CommandLine.arguments[2], Int(CommandLine.arguments[3]) ?? 16,
                encrypting: CommandLine.arguments.dropFirst(4).first == "encrypt")
        }
        let rounds = CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1]) ?? 3 : 3
        // Has libgcrypt initialised.
        _ = CipherSpec.supported
        print("| cipher | sector | OpenSSL | libgcrypt | nbdecrypt |\n|---|---|---|---|---|")
        for cipher in ciphers {
            for mode in ["xts", "cbc", "ecb", "ctr"] {
                for sectorSize in mode == "xts" ? [512, 4096] : [512] {
                    try measure(
                        Row(
                            cipher: cipher.name, mode: mode,
                            keySize: mode == "xts" ? 2 * cipher.keySize : cipher.keySize, sectorSize: sectorSize,
                            openSSL: cipher.openSSL.isEmpty ? "" : "\(cipher.openSSL)-\(mode.uppercased())",
                            gcrypt: cipher.gcrypt), rounds)
                }
            }
        }
        print("\n| cipher | sector | decrypts | encrypts |\n|---|---|---|---|")
        for (specification, keySize) in bothWays {
            for sectorSize in [512, 4096] { try measureBothWays(specification, keySize, sectorSize, rounds) }
        }
        print("\n| PBKDF2, µs an iteration | OpenSSL | libgcrypt |\n|---|---|---|")
        for (openSSL, gcrypt) in [
            ("SHA1", "SHA1"), ("SHA256", "SHA256"), ("SHA512", "SHA512"), ("SHA3-256", "SHA3-256"),
            ("RIPEMD160", "RIPEMD160"), ("BLAKE2B512", "BLAKE2B_512"), ("SM3", "SM3"), ("WHIRLPOOL", "WHIRLPOOL"),
        ] {
            var (first, second) = (0.0, 0.0)
            for _ in 0..<rounds {
                first = max(first, unsafe openssl_pbkdf2_speed(openSSL, 10_000, 0.1))
                second = max(second, unsafe gcrypt_pbkdf2_speed(gcrypt, 10_000, 0.1))
            }
            print("| \(gcrypt) | \(first > 0 ? text(100 / first) : "–") | \(second > 0 ? text(100 / second) : "–") |")
        }
    }

    static func measure(_ row: Row, _ rounds: Int) throws {
        // CBC by one call for many sectors, ECB without vectors, the others sector by sector.
        let unit = row.mode == "ecb" ? 0 : row.mode == "cbc" ? 32 << 10 : row.sectorSize
        let specification = try? CipherSpec("\(row.cipher)-\(row.mode)\(row.mode == "ecb" ? "" : "-plain64")")
        let cipher = try? specification?.makeCipher(key: key(row.keySize), sectorSize: row.sectorSize)
        var speeds = (openSSL: 0.0, gcrypt: 0.0, nbdecrypt: 0.0)
        for _ in 0..<rounds {
            if !row.openSSL.isEmpty {
                speeds.openSSL = max(speeds.openSSL, unsafe openssl_speed(row.openSSL, false, unit, 0.1))
            }
            speeds.gcrypt = max(speeds.gcrypt, unsafe gcrypt_speed(row.gcrypt, row.mode, row.keySize, false, unit, 0.1))
            if let cipher { speeds.nbdecrypt = max(speeds.nbdecrypt, try speed(of: cipher)) }
        }
        guard speeds.openSSL + speeds.gcrypt > 0 else { return }
        let columns = [speeds.openSSL, speeds.gcrypt, speeds.nbdecrypt].map { $0 > 0 ? text($0 / 1e9) : "–" }
        let bits = row.mode == "xts" ? row.keySize * 4 : row.keySize * 8
        print("| \(row.cipher)-\(row.mode), \(bits) bits | \(row.sectorSize) | \(columns.joined(separator: " | ")) |")
    }

    static func measureBothWays(_ specification: String, _ keySize: Int, _ sectorSize: Int, _ rounds: Int) throws {
        let cipher = try CipherSpec(specification).makeCipher(key: key(keySize), sectorSize: sectorSize)
        var speeds = (decrypt: 0.0, encrypt: 0.0)
        for _ in 0..<rounds {
            speeds.decrypt = max(speeds.decrypt, try speed(of: cipher))
            speeds.encrypt = max(speeds.encrypt, try speed(of: cipher, encrypting: true))
        }
        let columns = [speeds.decrypt, speeds.encrypt].map { text($0 / 1e9) }.joined(separator: " | ")
        print("| \(specification), \(keySize * 8) bits | \(sectorSize) | \(columns) |")
    }

    static func key(_ count: Int) -> Secret {
        Secret(count: count) { bytes in
            for index in 0..<count {
                bytes.storeBytes(of: UInt8(truncatingIfNeeded: index * 37 + 1), toByteOffset: index, as: UInt8.self)
            }
        }
    }

    /// The speed of one cipher alone, for a profiler.
    static func one(_ specification: String, _ keySize: Int, encrypting: Bool) throws {
        let cipher = try CipherSpec(specification).makeCipher(
            key: Secret(count: keySize) { $0.storeBytes(of: 1, toByteOffset: 0, as: UInt8.self) }, sectorSize: 512)
        for _ in 0..<30 { print(text(try speed(of: cipher, encrypting: encrypting) / 1e9)) }
    }

    static func speed(of cipher: any SectorCipher, encrypting: Bool = false) throws -> Double {
        var data = [UInt8](repeating: 0, count: 256 << 10)
        let clock = ContinuousClock()
        let start = clock.now
        var bytes = 0
        var elapsed = Duration.zero
        while elapsed < .milliseconds(100) {
            try data.withMutableBytes { (span) throws(BlockError) in
                if encrypting {
                    try cipher.encrypt(&span, firstSector: 1)
                } else {
                    try cipher.decrypt(&span, firstSector: 1)
                }
            }
            bytes += data.count
            elapsed = clock.now - start
        }
        let (seconds, attoseconds) = elapsed.components
        return Double(bytes) / (Double(seconds) + Double(attoseconds) * 1e-18)
    }

    /// Two decimals.
    static func text(_ value: Double) -> String {
        let hundredths = Int((value * 100).rounded())
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
    }
}
