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
        let openSSL: String?
        let gcrypt: String
    }

    private init(
        _ name: String, blockSize: Int, _ keys: [Int: (String?, String)], fasterInOpenSSL: Set<CipherMode> = []
    ) {
        self.name = name
        self.blockSize = blockSize
        self.keys = keys.mapValues { Names(openSSL: $0, gcrypt: $1) }
        self.fasterInOpenSSL = fasterInOpenSSL
    }

    /// All that may be asked for; the libraries may lack some.
    static let all: [CipherAlgorithm] = [
        .init(
            "aes", blockSize: 16, [16: ("AES-128", "AES"), 24: ("AES-192", "AES192"), 32: ("AES-256", "AES256")],
            fasterInOpenSSL: [.ecb]),
        .init("serpent", blockSize: 16, [16: (nil, "SERPENT128"), 24: (nil, "SERPENT192"), 32: (nil, "SERPENT256")]),
        .init("twofish", blockSize: 16, [16: (nil, "TWOFISH128"), 32: (nil, "TWOFISH")]),
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

    /// The sizes in bytes of the keys for which a library has the cipher in `mode`; of XTS, of both keys together.
    func keySizes(in mode: CipherMode) -> [Int] {
        keys.keys.sorted().map { mode == .xts ? 2 * $0 : $0 }.filter { library(mode, keySize: $0) != nil }
    }

    /// Whether any key makes the cipher usable in `mode` here.
    func isOffered(in mode: CipherMode) -> Bool { !keySizes(in: mode).isEmpty }

    /// The cipher with its key, by the fastest library that has it; nil when none does.
    func cipher(_ mode: CipherMode, _ direction: CipherDirection, key: Secret) -> (any LibraryCipher)? {
        switch library(mode, keySize: key.count) {
        case .openSSL(let name): OpenSSLCipher(name, direction, key: key)
        case .gcrypt(let name): GcryptCipher(name, mode, direction, key: key)
        case nil: nil
        }
    }

    private enum Library {
        case openSSL(String)
        case gcrypt(String)
    }

    private func library(_ mode: CipherMode, keySize: Int) -> Library? {
        // The block size of XTS is fixed (IEEE 1619), its key is two keys.
        if mode == .xts, blockSize != 16 || keySize % 2 != 0 { return nil }
        guard let names = keys[mode == .xts ? keySize / 2 : keySize] else { return nil }
        let openSSL = names.openSSL.map { "\($0)-\(mode.rawValue.uppercased())" }
            .flatMap { OpenSSLCipher.offers($0, keySize: keySize) ? Library.openSSL($0) : nil }
        let isFasterInOpenSSL = fasterInOpenSSL.contains(mode)
        if isFasterInOpenSSL, let openSSL { return openSSL }
        return GcryptCipher.offers(names.gcrypt, mode, keySize: keySize) ? .gcrypt(names.gcrypt) : openSSL
    }
}

/// How blocks are chained.
enum CipherMode: String, Sendable, CaseIterable {
    case xts
    case cbc
    case ecb
    case ctr
}
