// SPDX-License-Identifier: Apache-2.0

import CGcrypt
import CNettle
import CSecureHeap

/// The independent computation: one sector at a time, by one library call each, from the definitions.
struct PlainCipher {
    enum Mode { case xts, cbc, ecb, ctr, lrw }

    let algorithm: String
    let mode: Mode
    let key: [UInt8]
    let blockSize: Int

    init?(_ name: String, _ mode: Mode, key: [UInt8]) {
        secure_heap_begin()
        defer { secure_heap_end() }
        let size =
            switch mode {
            case .xts: key.count / 2
            case .lrw: key.count - 16
            case .cbc, .ecb, .ctr: key.count
            }
        let names: [String: [Int: String]] = [
            "aes": [16: "AES128", 24: "AES192", 32: "AES256"],
            "serpent": [16: "SERPENT128", 24: "SERPENT192", 32: "SERPENT256"],
            "twofish": [16: "TWOFISH128", 24: Self.nettle, 32: "TWOFISH"],
            "camellia": [16: "CAMELLIA128", 24: "CAMELLIA192", 32: "CAMELLIA256"],
            "cast5": [16: "CAST5"], "sm4": [16: "SM4"], "blowfish": [16: "BLOWFISH", 32: "BLOWFISH", 48: "BLOWFISH"],
            "des3_ede": [24: "3DES"],
        ]
        guard let algorithm = names[name]?[size] else { return nil }
        self.algorithm = algorithm
        self.mode = mode
        self.key = key
        self.blockSize =
            algorithm == Self.nettle ? 16 : unsafe gcry_cipher_get_algo_blklen(gcry_cipher_map_name(algorithm))
    }

    /// What libgcrypt does not have.
    private static let nettle = "twofish192"

    func encrypt(_ data: [UInt8], vector: [UInt8]) -> [UInt8] {
        if mode == .lrw || algorithm == Self.nettle { return encryptByDefinition(data, vector) }
        let number =
            switch mode {
            case .xts: GCRY_CIPHER_MODE_XTS
            case .cbc: GCRY_CIPHER_MODE_CBC
            case .ecb: GCRY_CIPHER_MODE_ECB
            case .ctr: GCRY_CIPHER_MODE_CTR
            case .lrw: GCRY_CIPHER_MODE_NONE
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
        unsafe precondition(gcry_cipher_encrypt(handle, &output, output.count, data, data.count) == 0)
        return output
    }

    /// From the bare block cipher.
    private func encryptByDefinition(_ data: [UInt8], _ vector: [UInt8]) -> [UInt8] {
        switch mode {
        case .ecb: return blocks(data, key)
        case .cbc:
            var chain = vector
            return stride(from: 0, to: data.count, by: 16).flatMap { start in
                chain = blocks(Self.sum(data[start..<(start + 16)], chain[...]), key)
                return chain
            }
        case .ctr:
            let start = Self.number(vector)
            let counters = (0..<(data.count / 16)).flatMap { Self.bytes(start &+ UInt128($0)) }
            return Self.sum(data[...], blocks(counters, key)[...])
        case .xts:
            let half = key.count / 2
            var tweak = UInt128(blocks(vector, Array(key[half...])).reversed().reduce(0) { $0 << 8 | UInt128($1) })
            let tweaks = (0..<(data.count / 16)).flatMap { _ -> [UInt8] in
                defer { tweak = (tweak << 1) ^ (tweak >> 127) * 0x87 }
                return Self.bytes(tweak).reversed()
            }
            let inner = blocks(Self.sum(data[...], tweaks[...]), Array(key[..<half]))
            return Self.sum(inner[...], tweaks[...])
        case .lrw:
            let end = key.count - 16
            var powers = [Self.number(Array(key[end...]))]
            for _ in 1..<128 {
                powers.append((powers[powers.count - 1] << 1) ^ (powers[powers.count - 1] >> 127) * 0x87)
            }
            let tweaks = (0..<(data.count / 16)).flatMap { index in
                var (product, bits) = (UInt128(0), Self.number(vector) &+ UInt128(index))
                while bits != 0 {
                    product ^= powers[bits.trailingZeroBitCount]
                    bits &= bits &- 1
                }
                return Self.bytes(product)
            }
            let inner = blocks(Self.sum(data[...], tweaks[...]), Array(key[..<end]))
            return Self.sum(inner[...], tweaks[...])
        }
    }

    private static func sum(_ left: ArraySlice<UInt8>, _ right: ArraySlice<UInt8>) -> [UInt8] {
        zip(left, right).map { $0 ^ $1 }
    }

    private static func number(_ bytes: [UInt8]) -> UInt128 { bytes.reduce(0) { $0 << 8 | UInt128($1) } }

    private static func bytes(_ number: UInt128) -> [UInt8] {
        (0..<16).map { UInt8(truncatingIfNeeded: number >> UInt128(120 - 8 * $0)) }
    }

    /// Each block by itself.
    private func blocks(_ data: [UInt8], _ key: [UInt8]) -> [UInt8] {
        guard algorithm == Self.nettle else {
            return PlainCipher(Self.names[algorithm] ?? "", .ecb, key: key)?.encrypt(data, vector: []) ?? []
        }
        guard let cipher = unsafe nettle_cipher_named(algorithm) else { return [] }
        var context = unsafe [UInt8](repeating: 0, count: Int(cipher.pointee.context_size))
        var output = [UInt8](repeating: 0, count: data.count)
        unsafe cipher.pointee.set_encrypt_key(&context, key)
        unsafe cipher.pointee.encrypt(context, data.count, &output, data)
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
            return encrypt([UInt8](repeating: 0, count: blockSize), vector: number)
        default:
            let hash = String(rule.dropFirst("essiv:".count)).uppercased()
            let shortened = ["WP256": 32, "WP384": 48][hash]
            let identifier = unsafe gcry_md_map_name(shortened == nil ? hash : "WHIRLPOOL")
            var digest = [UInt8](repeating: 0, count: Int(gcry_md_get_algo_dlen(identifier)))
            unsafe gcry_md_hash_buffer(identifier, &digest, key, key.count)
            digest.removeLast(digest.count - (shortened ?? digest.count))
            guard let cipher = PlainCipher(Self.names[algorithm] ?? "", .ecb, key: digest) else { return [] }
            return cipher.encrypt(little(sector), vector: [])
        }
    }

    private static let names = [
        "AES128": "aes", "AES192": "aes", "AES256": "aes", "SERPENT128": "serpent", "SERPENT192": "serpent",
        "SERPENT256": "serpent", "TWOFISH128": "twofish", "twofish192": "twofish", "TWOFISH": "twofish",
        "CAMELLIA128": "camellia",
        "CAMELLIA192": "camellia", "CAMELLIA256": "camellia", "CAST5": "cast5", "SM4": "sm4", "BLOWFISH": "blowfish",
        "3DES": "des3_ede",
    ]

    /// Encrypts whole sectors, one by one.
    func encrypt(_ data: [UInt8], rule: String, firstSector: UInt64, sectorSize: Int) -> [UInt8] {
        var result: [UInt8] = []
        for start in stride(from: 0, to: data.count, by: sectorSize) {
            let sector = firstSector &+ UInt64(start / 512)
            let vector = mode == .ecb ? [] : vector(rule, sector: sector, sectorSize: sectorSize)
            result += encrypt(Array(data[start..<(start + sectorSize)]), vector: vector)
        }
        return result
    }
}
