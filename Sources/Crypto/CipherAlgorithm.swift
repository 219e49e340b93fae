// SPDX-License-Identifier: Apache-2.0

/// A block cipher by the name that the kernel gives it, and what the libraries call it.
///
/// Which library serves which mode follows the measurements in docs/decisions/0014-cipher-libraries.md.
struct CipherAlgorithm: Sendable, Equatable {
    /// As the kernel has it, e.g. "des3_ede".
    let name: String
    /// In bytes: 8 or 16.
    let blockSize: Int
    /// The names in the libraries, by key size in bytes.
    private let keys: [Int: Names]
    /// The modes in which OpenSSL is the faster library; in all others, libgcrypt is.
    private let fasterInOpenSSL: Set<CipherMode>

    private struct Names: Equatable {
        /// Without the mode, which is appended; nil when OpenSSL does not have the cipher without its old providers.
        var openSSL: String?
        var gcrypt: String?
        /// What neither of the others has.
        var nettle: String?
    }

    private init(
        _ name: String, blockSize: Int, _ keys: [Int: (String?, String)], nettle: [Int: String] = [:],
        fasterInOpenSSL: Set<CipherMode> = []
    ) {
        self.name = name
        self.blockSize = blockSize
        self.keys = keys.mapValues { Names(openSSL: $0, gcrypt: $1) }
            .merging(nettle.mapValues { Names(nettle: $0) }) { first, _ in first }
        self.fasterInOpenSSL = fasterInOpenSSL
    }

    /// All that may be asked for; the libraries may lack some.
    static let all: [CipherAlgorithm] = [
        .init(
            "aes", blockSize: 16, [16: ("AES-128", "AES"), 24: ("AES-192", "AES192"), 32: ("AES-256", "AES256")],
            fasterInOpenSSL: [.ecb]),
        .init("serpent", blockSize: 16, [16: (nil, "SERPENT128"), 24: (nil, "SERPENT192"), 32: (nil, "SERPENT256")]),
        .init("twofish", blockSize: 16, [16: (nil, "TWOFISH128"), 32: (nil, "TWOFISH")], nettle: [24: "twofish192"]),
        .init(
            "camellia", blockSize: 16,
            [
                16: ("CAMELLIA-128", "CAMELLIA128"), 24: ("CAMELLIA-192", "CAMELLIA192"),
                32: ("CAMELLIA-256", "CAMELLIA256"),
            ]),
        .init("cast5", blockSize: 8, [16: (nil, "CAST5")]),
        .init("sm4", blockSize: 16, [16: ("SM4", "SM4")], fasterInOpenSSL: [.ecb]),
        .init(
            "aria", blockSize: 16,
            [16: ("ARIA-128", "ARIA128"), 24: ("ARIA-192", "ARIA192"), 32: ("ARIA-256", "ARIA256")]),
        .init(
            "blowfish", blockSize: 8,
            Dictionary(uniqueKeysWithValues: stride(from: 16, through: 56, by: 8).map { ($0, (nil, "BLOWFISH")) })),
        .init("des3_ede", blockSize: 8, [24: ("DES-EDE3", "3DES")]),
    ]

    /// The sizes in bytes of the keys for which a library has the cipher in `mode`; of XTS, of both keys together; of
    /// LRW, with that of the tweaks.
    func keySizes(in mode: CipherMode) -> [Int] {
        let sizes = keys.keys.sorted()
        // The field in which LRW multiplies has 128 bits.
        guard mode != .lrw else { return blockSize == 16 ? keySizes(in: .ecb).map { $0 + blockSize } : [] }
        return sizes.map { mode == .xts ? 2 * $0 : $0 }.filter { library(mode, keySize: $0) != nil }
    }

    /// Whether any key makes the cipher usable in `mode` here.
    func isOffered(in mode: CipherMode) -> Bool { !keySizes(in: mode).isEmpty }

    /// The cipher with its key, by the fastest library that has it; nil when none does.
    /// - Parameter direction: the usual one; the other works, too.
    func cipher(_ mode: CipherMode, _ direction: CipherDirection, key: Secret) -> (any LibraryCipher)? {
        guard mode != .lrw else { return lrwCipher(direction, key: key) }
        let cipher: (any LibraryCipher)? =
            switch library(mode, keySize: key.count) {
            case .openSSL(let name): OpenSSLCipher(name, direction, key: key)
            case .gcrypt(let name): GcryptCipher(name, mode, key: key)
            case .nettle(let name): NettleCipher(name, mode, direction, key: key)
            case nil: nil
            }
        guard name == "aes", mode == .cbc, let cipher else { return cipher }
        return MultiBufferCipher(cipher, key: key)
    }

    /// The last block of the key is that of the tweaks.
    private func lrwCipher(_ direction: CipherDirection, key: Secret) -> LRWCipher? {
        guard blockSize == 16, key.count > blockSize else { return nil }
        let count = key.count - blockSize
        return cipher(.ecb, direction, key: key.prefix(count)).map {
            LRWCipher($0, tweakKey: key.part(count..<key.count))
        }
    }

    private enum Library {
        case openSSL(String)
        case gcrypt(String)
        case nettle(String)
    }

    private func library(_ mode: CipherMode, keySize: Int) -> Library? {
        // The block size of XTS is fixed (IEEE 1619), its key is two keys.
        if mode == .xts, blockSize != 16 || keySize % 2 != 0 { return nil }
        guard let names = keys[mode == .xts ? keySize / 2 : keySize] else { return nil }
        let openSSL = names.openSSL.map { "\($0)-\(mode.rawValue.uppercased())" }
            .flatMap { OpenSSLCipher.offers($0, keySize: keySize) ? Library.openSSL($0) : nil }
        let isFasterInOpenSSL = fasterInOpenSSL.contains(mode)
        if isFasterInOpenSSL, let openSSL { return openSSL }
        if let gcrypt = names.gcrypt, GcryptCipher.offers(gcrypt, mode, keySize: keySize) { return .gcrypt(gcrypt) }
        if let nettle = names.nettle, NettleCipher.offers(nettle, mode, keySize: keySize) { return .nettle(nettle) }
        return openSSL
    }
}

/// How blocks are chained.
enum CipherMode: String, Sendable, CaseIterable {
    case xts
    case cbc
    case ecb
    case ctr
    /// Made here of ``ecb``: see ``LRWCipher``.
    case lrw
}
