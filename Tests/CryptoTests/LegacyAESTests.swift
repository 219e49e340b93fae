// SPDX-License-Identifier: Apache-2.0

import BlockIO
import COpenSSL
import Crypto
import Testing

@Suite struct LegacyAESTests {
    private static func secret(_ bytes: [UInt8]) -> Secret {
        bytes.withBytes { bytes in Secret(count: bytes.byteCount) { $0.copy(from: bytes) } }
    }

    private static func bytes(_ secret: Secret) -> [UInt8] { secret.withBytes { [UInt8](copying: $0) } }

    /// The definition, sector by sector: AES-128-CBC with the vector of each sector, by one OpenSSL call each.
    private static func plainWay(_ data: [UInt8], key: [UInt8], firstSector: UInt64, encrypt: Bool) -> [UInt8] {
        var result: [UInt8] = []
        for start in stride(from: 0, to: data.count, by: 512) {
            let number = firstSector + UInt64(start / 512)
            let iv =
                (0..<8).map { UInt8(truncatingIfNeeded: number >> UInt64(8 * $0)) } + [UInt8](repeating: 0, count: 8)
            var output = [UInt8](repeating: 0, count: 528)
            var count: Int32 = 0
            let context = unsafe EVP_CIPHER_CTX_new()
            defer { unsafe EVP_CIPHER_CTX_free(context) }
            unsafe EVP_CipherInit_ex(context, EVP_aes_128_cbc(), nil, key, iv, encrypt ? 1 : 0)
            unsafe EVP_CIPHER_CTX_set_padding(context, 0)
            unsafe EVP_CipherUpdate(context, &output, &count, Array(data[start..<(start + 512)]), 512)
            result += output[..<Int(count)]
        }
        return result
    }

    @Test(arguments: [1, 2, 63, 64, 65, 127, 128, 200], [0, 1, 0xFFFF_FFFF, 1 << 55])
    func `many sectors at once go both ways as the plain way has it`(sectors: Int, firstSector: UInt64) throws {
        let key = (0..<16).map { UInt8($0 * 17) }
        let plain = (0..<(sectors * 512)).map { UInt8(truncatingIfNeeded: $0 &* 131 &+ $0 >> 9) }
        var data = Self.plainWay(plain, key: key, firstSector: firstSector, encrypt: true)
        #expect(Self.plainWay(data, key: key, firstSector: firstSector, encrypt: false) == plain)
        let cipher = LegacyAESCipher(key: Self.secret(key))
        try data.withMutableBytes { (bytes) throws(BlockError) in try cipher.decrypt(&bytes, firstSector: firstSector) }
        #expect(data == plain)
        try data.withMutableBytes { (bytes) throws(BlockError) in try cipher.encrypt(&bytes, firstSector: firstSector) }
        #expect(data == Self.plainWay(plain, key: key, firstSector: firstSector, encrypt: true))
    }

    @Test func `many threads can use one cipher in both ways`() async throws {
        let key = [UInt8](repeating: 9, count: 16)
        let cipher = LegacyAESCipher(key: Self.secret(key))
        let plain = [UInt8](repeating: 0x5A, count: 512 * 100)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for sector in 0..<16 {
                let encrypted = Self.plainWay(plain, key: key, firstSector: UInt64(sector), encrypt: true)
                group.addTask {
                    var data = encrypted
                    try data.withMutableBytes { (bytes) throws(BlockError) in
                        try cipher.decrypt(&bytes, firstSector: UInt64(sector))
                    }
                    return data == plain
                }
                group.addTask {
                    var data = plain
                    try data.withMutableBytes { (bytes) throws(BlockError) in
                        try cipher.encrypt(&bytes, firstSector: UInt64(sector))
                    }
                    return data == encrypted
                }
            }
            for try await isEqual in group { #expect(isEqual) }
        }
    }

    @Test(
        arguments: [
            ("", []), ("abc", Array("abc".utf8)), ("0123456789abcdef", Array("0123456789abcdef".utf8)),
            ("0123456789abcdefgh", Array("0123456789abcdef".utf8)), ("ab\0cd", Array("ab".utf8)), ("\0abc", []),
        ] as [(String, [UInt8])])
    func `a passphrase is cut at a NUL and to 16 bytes and padded with zeros`(passphrase: String, used: [UInt8]) {
        let secret = Self.secret(Array(passphrase.utf8))
        #expect(LegacyAESKey.bytesUsed(of: secret) == used.count)
        let key = Self.bytes(LegacyAESKey.derive(from: secret))
        #expect(key == used + [UInt8](repeating: 0, count: 16 - used.count))
    }
}
