// SPDX-License-Identifier: Apache-2.0

import CGcrypt
import CSecureHeap

/// The independent computation: one sector at a time, by one library call each, from the definitions.
struct PlainCipher {
    /// libgcrypt's number and name of mode.
    enum Mode { case xts, cbc, ecb, ctr }

    let algorithm: String
    let mode: Mode
    let key: [UInt8]
    let blockSize: Int

    init?(_ name: String, _ mode: Mode, key: [UInt8]) {
        secure_heap_begin()
        defer { secure_heap_end() }
        let size = mode == .xts ? key.count / 2 : key.count
        let names: [String: [Int: String]] = [
            "aes": [16: "AES128", 24: "AES192", 32: "AES256"],
            "serpent": [16: "SERPENT128", 24: "SERPENT192", 32: "SERPENT256"],
            "twofish": [16: "TWOFISH128", 32: "TWOFISH"],
            "camellia": [16: "CAMELLIA128", 24: "CAMELLIA192", 32: "CAMELLIA256"],
            "cast5": [16: "CAST5"], "sm4": [16: "SM4"], "blowfish": [16: "BLOWFISH", 32: "BLOWFISH"],
            "des3_ede": [24: "3DES"],
        ]
        guard let algorithm = names[name]?[size] else { return nil }
        self.algorithm = algorithm
        self.mode = mode
        self.key = key
        self.blockSize = unsafe gcry_cipher_get_algo_blklen(gcry_cipher_map_name(algorithm))
    }

    func crypt(_ data: [UInt8], vector: [UInt8], encrypt: Bool) -> [UInt8] {
        let number =
            switch mode {
            case .xts: GCRY_CIPHER_MODE_XTS
            case .cbc: GCRY_CIPHER_MODE_CBC
            case .ecb: GCRY_CIPHER_MODE_ECB
            case .ctr: GCRY_CIPHER_MODE_CTR
            }
        var handle: gcry_cipher_hd_t?
        var output = [UInt8](repeating: 0, count: data.count)
        unsafe precondition(
            gcry_cipher_open(&handle, gcry_cipher_map_name(algorithm), Int32(number.rawValue), 0) == 0)
        defer { unsafe gcry_cipher_close(handle) }
        unsafe precondition(gcry_cipher_setkey(handle, key, key.count) == 0)
        if mode == .ctr {
            unsafe precondition(gcry_cipher_setctr(handle, vector, vector.count) == 0)
        } else if mode != .ecb {
            unsafe precondition(gcry_cipher_setiv(handle, vector, vector.count) == 0)
        }
        let error =
            encrypt
            ? unsafe gcry_cipher_encrypt(handle, &output, output.count, data, data.count)
            : unsafe gcry_cipher_decrypt(handle, &output, output.count, data, data.count)
        precondition(error == 0)
        return output
    }

    /// The vector of a sector by the rules of dm-crypt.
    func vector(_ rule: String, sector: UInt64, sectorSize: Int) -> [UInt8] {
        func little(_ value: UInt64) -> [UInt8] {
            (0..<blockSize).map { $0 < 8 ? UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) : 0 }
        }
        func big(_ value: UInt64) -> [UInt8] {
            [UInt8](repeating: 0, count: blockSize - 8)
                + (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(56 - 8 * $0)) }
        }
        switch rule {
        case "plain": return little(sector % (1 << 32))
        case "plain64": return little(sector)
        case "plain64be": return big(sector)
        case "null": return little(0)
        case "benbi":
            let blocksPerSector: UInt64 = mode == .ctr ? 512 : UInt64(512 / blockSize)
            return big((sector &* blocksPerSector) &+ 1)
        case "eboiv":
            let number = little(sector &* UInt64(sectorSize))
            return crypt([UInt8](repeating: 0, count: blockSize), vector: number, encrypt: true)
        default:
            let hash = String(rule.dropFirst("essiv:".count)).uppercased()
            let identifier = unsafe gcry_md_map_name(hash)
            var digest = [UInt8](repeating: 0, count: Int(gcry_md_get_algo_dlen(identifier)))
            unsafe gcry_md_hash_buffer(identifier, &digest, key, key.count)
            guard let cipher = PlainCipher(Self.names[algorithm] ?? "", .ecb, key: digest) else { return [] }
            return cipher.crypt(little(sector), vector: [], encrypt: true)
        }
    }

    private static let names = [
        "AES128": "aes", "AES192": "aes", "AES256": "aes", "SERPENT128": "serpent", "SERPENT192": "serpent",
        "SERPENT256": "serpent", "TWOFISH128": "twofish", "TWOFISH": "twofish", "CAMELLIA128": "camellia",
        "CAMELLIA192": "camellia", "CAMELLIA256": "camellia", "CAST5": "cast5", "SM4": "sm4", "BLOWFISH": "blowfish",
        "3DES": "des3_ede",
    ]

    /// Encrypts whole sectors, one by one.
    func encrypt(_ data: [UInt8], rule: String, firstSector: UInt64, sectorSize: Int) -> [UInt8] {
        var result: [UInt8] = []
        for start in stride(from: 0, to: data.count, by: sectorSize) {
            let sector = firstSector &+ UInt64(start / 512)
            let vector = mode == .ecb ? [] : vector(rule, sector: sector, sectorSize: sectorSize)
            result += crypt(Array(data[start..<(start + sectorSize)]), vector: vector, encrypt: true)
        }
        return result
    }
}
