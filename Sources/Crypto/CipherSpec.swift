// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// How sectors are encrypted, as dm-crypt and cryptsetup write it: e.g. "aes-xts-plain64" or "aes-cbc-essiv:sha256".
public struct CipherSpec: Sendable, Equatable, CustomStringConvertible {
    /// The specification as the image has it.
    public let description: String
    private let transformation: Transformation

    /// What is done to a sector.
    enum Transformation: Sendable, Equatable {
        case null
        case cipher(CipherAlgorithm, CipherMode, VectorRule)
    }

    /// How vectors follow from sector numbers: ``SectorIV`` without keys.
    enum VectorRule: Sendable, Equatable {
        /// ECB has no vectors.
        case none
        case plain
        case plain64
        case plain64be
        case null
        case benbi
        /// `keySize`: how many bytes of the digest are the key of the vectors' cipher.
        case essiv(HashAlgorithm, keySize: Int)
        case eboiv
    }

    /// Reads a specification: "cipher-mode-vector", "cipher-mode-vector:option", or the same with the names of the
    /// kernel's crypto API, "capi:mode(cipher)-vector".
    ///
    /// - Throws: ``FormatError`` (unsupported) for what no library here can do, with the list of what can be done.
    public init(_ specification: String) throws(FormatError) {
        self.description = specification
        self.transformation = try CipherSpecParser(specification).parse()
    }

    /// Whether this is cipher_null: data that was never encrypted.
    public var isNull: Bool { transformation == .null }

    /// What can be built here, for messages: ciphers, modes, vectors and hashes.
    public static var supported: String {
        let ciphers = CipherAlgorithm.all.compactMap { algorithm -> String? in
            let modes = CipherMode.allCases.filter { algorithm.isOffered(in: $0) }
            return modes.isEmpty ? nil : "\(algorithm.name) (\(modes.map(\.rawValue).joined(separator: ", ")))"
        }
        return "\(ciphers.joined(separator: ", ")), with the vectors plain, plain64, plain64be, null, benbi, "
            + "essiv:HASH and eboiv, and cipher_null"
    }

    /// Checks that the cipher takes keys of this size.
    ///
    /// - Parameter keySize: in bytes; of XTS, of both keys together; of LRW, with that of the tweaks.
    /// - Throws: ``FormatError`` (unsupported), with the sizes that it takes.
    public func check(keySize: Int) throws(FormatError) {
        guard case .cipher(let algorithm, let mode, let rule) = transformation else { return }
        let sizes = algorithm.keySizes(in: mode)
        guard sizes.contains(keySize) else {
            let allowed = sizes.map(String.init).joined(separator: ", ")
            throw .unsupported("cipher \(self): found a key of \(keySize) bytes, allowed here are \(allowed)")
        }
        guard case .essiv(let hash, let digestSize) = rule else { return }
        let essivSizes = algorithm.keySizes(in: .ecb)
        guard essivSizes.contains(digestSize) else {
            let allowed = essivSizes.map(String.init).joined(separator: ", ")
            throw .unsupported(
                "cipher \(self): the digest of \(hash), \(digestSize) bytes, is no key of \(algorithm.name), "
                    + "whose keys have \(allowed) bytes here")
        }
    }

    /// The cipher with its key.
    ///
    /// - Parameters:
    ///   - key: of a size that ``check(keySize:)`` accepts.
    ///   - sectorSize: in bytes: 512, 1024, 2048 or 4096.
    ///   - isKeyslotArea: whether libcryptsetup encrypted it, not dm-crypt; they count differently for benbi in CTR mode.
    /// - Throws: ``FormatError`` (unsupported) for another key or sector size.
    public func makeCipher(
        key: Secret, sectorSize: Int, isKeyslotArea: Bool = false
    ) throws(FormatError) -> any SectorCipher {
        guard [512, 1024, 2048, 4096].contains(sectorSize) else {
            throw .unsupported("cipher \(self): found sectors of \(sectorSize) bytes, allowed 512, 1024, 2048, 4096")
        }
        guard case .cipher(let algorithm, let mode, let rule) = transformation else {
            return NullSectorCipher(sectorSize: sectorSize)
        }
        try check(keySize: key.count)
        let cipher = try libraryCipher(algorithm, mode, .decrypt, key)
        let vectors = try kind(of: rule, algorithm, mode, key, cipher, isKeyslotArea: isKeyslotArea).map {
            SectorIV($0, size: algorithm.blockSize, sectorSize: sectorSize)
        }
        if mode == .cbc, let vectors {
            return CBCSectorCipher(cipher, blockSize: algorithm.blockSize, vectors: vectors, sectorSize: sectorSize)
        }
        return UnchainedSectorCipher(cipher, vectors: vectors, sectorSize: sectorSize)
    }

    private func kind(
        of rule: VectorRule, _ algorithm: CipherAlgorithm, _ mode: CipherMode, _ key: Secret,
        _ cipher: any LibraryCipher, isKeyslotArea: Bool
    ) throws(FormatError) -> SectorIV.Kind? {
        switch rule {
        case .none: return nil
        case .plain: return .plain
        case .plain64: return .plain64
        case .plain64be: return .plain64be
        case .null: return .null
        case .benbi:
            // The unit that is counted: a block, which the kernel takes to be a byte in CTR mode.
            let unit = mode == .ctr && !isKeyslotArea ? 1 : algorithm.blockSize
            return .benbi(shift: (512 / unit).trailingZeroBitCount)
        case .essiv(let hash, let keySize):
            let digest = key.withBytes { key in Secret(count: hash.digestSize) { hash.hash(key, into: &$0) } }
            return .essiv(try libraryCipher(algorithm, .ecb, .encrypt, digest.prefix(keySize)))
        case .eboiv: return .eboiv(cipher)
        }
    }

    private func libraryCipher(
        _ algorithm: CipherAlgorithm, _ mode: CipherMode, _ direction: CipherDirection, _ key: Secret
    ) throws(FormatError) -> any LibraryCipher {
        guard let cipher = algorithm.cipher(mode, direction, key: key) else {
            throw .unsupported("cipher \(self): no library takes this key")
        }
        return cipher
    }
}
