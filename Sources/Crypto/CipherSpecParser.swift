// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// Reads what ``CipherSpec`` is made of.
///
/// The grammar is that of dm-crypt's table (Documentation/admin-guide/device-mapper/dm-crypt.rst of Linux).
struct CipherSpecParser {
    /// The longest specification that is read, in bytes.
    static let maximumCount = 128
    private let text: String

    init(_ text: String) { self.text = text }

    /// - Throws: ``FormatError`` (unsupported) with the list of what can be built.
    func parse() throws(FormatError) -> CipherSpec.Transformation {
        guard text.utf8.count <= Self.maximumCount else {
            throw .unsupported(
                "cipher \(ShownText.quoted(text)): found \(text.utf8.count) bytes, allowed \(Self.maximumCount)")
        }
        // A specification is shown as it is from here on.
        guard text.utf8.allSatisfy({ (0x21..<0x7F).contains($0) }) else {
            throw refusal("a specification has letters, digits and punctuation")
        }
        if ["cipher_null", "null", "cipher_null-ecb", "null-ecb", "capi:ecb(cipher_null)"].contains(text) {
            return .null
        }
        let parts = text.hasPrefix("capi:") ? try kernelParts() : try plainParts()
        guard let algorithm = CipherAlgorithm.all.first(where: { $0.name == parts.cipher }) else {
            // The one cipher of dm-crypt that was left out on purpose: docs/decisions/0014-cipher-libraries.md.
            guard parts.cipher != "cast6" else {
                throw refusal(
                    "OpenSSL, libgcrypt and Nettle have no cast6, and Botan dropped it in version 3; copy the disk where "
                        + "cryptsetup opens it, with the kernel's")
            }
            throw refusal("the cipher \(ShownText.quoted(parts.cipher)) is not known")
        }
        guard let mode = CipherMode(rawValue: parts.mode) else {
            throw refusal("the mode \(ShownText.quoted(parts.mode)) is not known")
        }
        guard algorithm.isOffered(in: mode) else {
            throw refusal("no library here has \(algorithm.name) in mode \(mode.rawValue)")
        }
        return .cipher(algorithm, mode, try rule(parts.vector, mode))
    }

    private typealias Parts = (cipher: String, mode: String, vector: String?)

    /// "cipher-mode-vector:option"; without a mode, or as "cipher-plain", what the kernel of 2005 did.
    private func plainParts() throws(FormatError) -> Parts {
        let parts = text.split(separator: "-", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        guard !parts[0].contains(":") else { throw refusal("several keys are not supported") }
        switch (parts.count, parts.count > 1 ? parts[1] : "plain") {
        case (3, let mode): return (parts[0], mode, parts[2])
        case (_, "plain"): return (parts[0], "cbc", "plain")
        case (_, let mode): return (parts[0], mode, nil)
        }
    }

    /// "capi:mode(cipher)-vector:option", with "ecb(cipher)" for "cipher", "essiv(mode(cipher),hash)" for a mode with
    /// the vector plain64, and a driver's name ("aes-generic") for a cipher's.
    private func kernelParts() throws(FormatError) -> Parts {
        let specification = text.dropFirst("capi:".count)
        guard let end = specification.lastIndex(of: ")") else { throw refusal("a mode and a cipher are missing") }
        let rest = specification[specification.index(after: end)...]
        guard rest.isEmpty || rest.hasPrefix("-") else { throw refusal("a vector is missing behind the cipher") }
        var vector = rest.isEmpty ? nil : String(rest.dropFirst())
        var mode = specification[...end]
        if let inner = Self.argument(of: "essiv", mode) {
            guard let comma = inner.lastIndex(of: ","), vector.map(Self.vectorName) == "plain64" else {
                throw refusal("essiv needs a hash and the vector plain64")
            }
            vector = "essiv:\(inner[inner.index(after: comma)...])"
            mode = inner[..<comma]
        }
        for name in CipherMode.allCases.map(\.rawValue) {
            guard let argument = Self.argument(of: name, mode) else { continue }
            let cipher = Self.argument(of: "ecb", argument) ?? argument
            return (String(cipher.prefix { $0 != "-" }), name, vector)
        }
        throw refusal("the mode is not known")
    }

    /// What stands in the parentheses of `name(…)`.
    private static func argument(of name: String, _ text: Substring) -> Substring? {
        guard text.hasPrefix("\(name)("), text.hasSuffix(")") else { return nil }
        return text.dropFirst(name.count + 1).dropLast()
    }

    private func rule(_ vector: String?, _ mode: CipherMode) throws(FormatError) -> CipherSpec.VectorRule {
        guard let vector else {
            guard mode == .ecb else { throw refusal("the mode \(mode.rawValue) needs a vector") }
            return .none
        }
        guard mode != .ecb else {
            // QEMU writes "ecb-plain64", and means no vector; dm-crypt drops any, but has no cipher for this one.
            guard Self.vectorName(vector) != "essiv" else { throw refusal("the mode ecb has no vector") }
            return .none
        }
        let rule = try rule(vector)
        // dm-crypt wants blocks as large as vectors, and CTR has blocks of a byte.
        guard mode != .ctr || rule != .eboiv else { throw refusal("eboiv is not defined for the mode ctr") }
        return rule
    }

    /// What is before a colon.
    private static func vectorName(_ vector: String) -> String { String(vector.prefix { $0 != ":" }) }

    /// The rule by its name. What follows a colon is for essiv alone: dm-crypt and QEMU ignore it behind another name.
    private func rule(_ vector: String) throws(FormatError) -> CipherSpec.VectorRule {
        let name = Self.vectorName(vector)
        switch name {
        case "plain": return .plain
        case "plain64": return .plain64
        case "plain64be": return .plain64be
        case "null": return .null
        case "benbi": return .benbi
        case "eboiv": return .eboiv
        case "essiv":
            guard name != vector else { throw refusal("the vector \"essiv\" needs a hash, as in essiv:sha256") }
            return try essiv(String(vector.dropFirst("essiv:".count)))
        default: throw refusal("the vector \(ShownText.quoted(name)) is not known")
        }
    }

    /// essiv with a hash of the kernel, which has Whirlpool also cut short; nothing else in an image names these.
    private func essiv(_ hash: String) throws(FormatError) -> CipherSpec.VectorRule {
        let shortened = ["wp256": 32, "wp384": 48]
        let algorithm = try HashAlgorithm(shortened.keys.contains(hash) ? "wp512" : hash)
        return .essiv(algorithm, keySize: shortened[hash] ?? algorithm.digestSize)
    }

    private func refusal(_ reason: String) -> FormatError {
        .unsupported("cipher \(ShownText.quoted(text)): \(reason); this program can do \(CipherSpec.supported)")
    }
}
