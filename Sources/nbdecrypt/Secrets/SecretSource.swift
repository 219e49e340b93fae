// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import SystemPackage

/// Where a passphrase or key comes from, and what its bytes mean.
struct SecretSource: Sendable {
    /// What it opens.
    enum Role {
        /// Anything that takes a passphrase.
        case passphrase
        /// An AES image: it is the 16 bytes of its key.
        case aesKey
        /// A LUKS container: it is the key that the header protects.
        case volumeKey
    }

    let role: Role
    var origin: SecretOrigin
    let form: SecretForm
    /// Of an object of QEMU: how that is called.
    private var objectID: String?
    /// It is called a key, as the option is that names it.
    private var isKey = false

    private init(_ role: Role, _ origin: SecretOrigin, _ form: SecretForm) {
        (self.role, self.origin, self.form) = (role, origin, form)
    }

    /// Text; one trailing newline is not part of it. "-" is standard input.
    static func passphraseFile(_ path: String) -> Self { Self(.passphrase, .file(path), .text) }
    /// Text, as above.
    static func passphraseDescriptor(_ number: Int32) -> Self { Self(.passphrase, .descriptor(number), .text) }
    /// The bytes of a passphrase as they are: `size` bytes from `offset` on, or all that follow. "-" is standard input.
    static func keyFile(_ path: String, offset: UInt64 = 0, size: Int? = nil) -> Self {
        var source = Self(.passphrase, .file(path, offset: offset, size: size), .bytes)
        source.isKey = true
        return source
    }
    /// The 16 key bytes of an AES image themselves.
    static func rawKeyFile(_ path: String) -> Self { Self(.aesKey, .file(path), .bytes) }
    /// The key that a LUKS header protects.
    static func volumeKeyFile(_ path: String) -> Self { Self(.volumeKey, .file(path), .bytes) }
    /// What a command prints: text.
    static func command(_ line: String) -> Self { Self(.passphrase, .command(line), .text) }
    /// A credential of the service manager: text.
    static func credential(_ name: String) -> Self { Self(.passphrase, .credential(name), .text) }
    /// A key of the kernel: bytes, as cryptsetup takes it.
    static func keyring(_ key: KeyringKey) -> Self { Self(.passphrase, .keyring(key), .bytes) }
    /// A secret of libvirt: bytes, as it gives them to QEMU.
    static func libvirtSecret(_ uuid: String) -> Self { Self(.passphrase, .libvirtSecret(uuid), .bytes) }
    /// An object of QEMU.
    static func object(_ id: String, _ origin: SecretOrigin, _ form: SecretForm) -> Self {
        var source = Self(.passphrase, origin, form)
        source.objectID = id
        return source
    }

    /// In one word, as in "key-file:/root/base.key" or "hex:credential:disk": perhaps a form, then the kind and the place.
    init?(text: some StringProtocol) {
        guard let (first, rest) = Self.splitAtColon(text) else { return nil }
        let form = SecretForm(rawValue: String(first))
        guard let (kind, place) = form == nil ? (first, rest) : Self.splitAtColon(rest), !place.isEmpty,
            let origin = SecretOrigin(kind: kind, place: String(place))
        else { return nil }
        let usual: (Role, SecretForm) =
            switch kind {
            case "raw-key-file": (.aesKey, .bytes)
            case "volume-key-file": (.volumeKey, .bytes)
            case "key-file", "keyring", "libvirt-secret": (.passphrase, .bytes)
            default: (.passphrase, .text)
            }
        self.init(usual.0, origin, form ?? usual.1)
        isKey = kind == "key-file"
    }

    /// The same, with numbers for commands if there are several.
    static func numbered(_ sources: [SecretSource]) -> [SecretSource] {
        let commands = sources.indices.filter { if case .command = sources[$0].origin { true } else { false } }
        guard commands.count > 1 else { return sources }
        var sources = sources
        for (number, index) in commands.enumerated() {
            guard case .command(let line, _) = sources[index].origin else { continue }
            sources[index].origin = .command(line, number: number + 1)
        }
        return sources
    }

    private static func splitAtColon(_ text: some StringProtocol) -> (Substring, Substring)? {
        let text = Substring(text)
        guard let colon = text.firstIndex(of: ":") else { return nil }
        return (text[..<colon], text[text.index(after: colon)...])
    }

    /// How messages name it; never its contents.
    var name: String {
        let encoding =
            switch form {
            case .text, .bytes: ""
            case .hexadecimal: " (hexadecimal)"
            case .base64: " (base64)"
            }
        return plainName + encoding
    }

    private var plainName: String {
        if let objectID { return "the secret object \(ShownText.printable(objectID, maximumLength: 255))" }
        let kind =
            switch role {
            case .aesKey: "raw key"
            case .volumeKey: "volume key"
            case .passphrase: isKey ? "key" : "passphrase"
            }
        return switch origin {
        case .file("-", _, _): "the \(kind) from standard input"
        case .file(let path, _, _): "the \(kind) file \(path)"
        case .descriptor(let number): "the \(kind) from descriptor \(number)"
        case .command(_, let number): "the \(kind) command\(number.map { " number \($0)" } ?? "")"
        case .credential(let name): "the credential \(ShownText.printable(name, maximumLength: 255))"
        case .keyring(let key): "the key \(key.shown) of the kernel"
        case .libvirtSecret(let uuid): "the secret \(uuid) of libvirt"
        case .ciphertext, .wrapped: "the encrypted secret"
        }
    }

    /// The same, with its path for this process.
    ///
    /// - Parameter directory: in which a relative path starts; nil: the working directory.
    func located(from directory: FilePath?) -> SecretSource {
        var source = self
        source.origin = origin.located(from: directory)
        return source
    }

    /// Is it standard input or behind a descriptor?
    var isReadOnce: Bool { origin.isReadOnce }

    /// Is it standard input, by either name?
    var isStandardInput: Bool { origin.isStandardInput }

    /// Reads the secret.
    ///
    /// - Parameter termination: ends a command that is run for it.
    /// - Throws: ``OpeningError``.
    func read(_ termination: Termination) throws(OpeningError) -> NamedSecret {
        let read = try SecretReader(name: name, termination: termination).read(origin)
        let secret = try form.decode(read, name)
        // A newline alone is the empty passphrase; nothing at all may be a mistake.
        return NamedSecret(name: name, secret: secret, isMissing: read.count == 0, hints: hints(read))
    }

    /// Is it less than what there is?
    private var isPart: Bool {
        if case .file(_, let offset, let size) = origin { offset > 0 || size != nil } else { false }
    }

    /// What to type when the secret does not fit, from what was read.
    private func hints(_ all: Secret) -> NamedSecret.Hints {
        var hints = NamedSecret.Hints()
        // QEMU says itself what the bytes of its objects are.
        guard objectID == nil, form == .text || form == .bytes else { return hints }
        let shape = SecretShape(all)
        hints.encoding = shape.encodingHint(option)
        // Another option would take the whole file, not the part of it.
        if role == .passphrase, !isPart {
            let other = option(form == .text ? .bytes : .text)
            hints.newline = shape.newlineHint(wasDropped: form == .text, other)
            if hints.newline != nil {
                hints.otherForm = .init(secret: form == .text ? all : all.droppingTrailingNewline(), option: other)
            }
        }
        return hints
    }

    /// The option that takes the same source in another form, as the shell takes it.
    private func option(_ form: SecretForm) -> String {
        let kind: String
        switch origin {
        case .file(let path, _, _):
            switch (role, form) {
            case (.passphrase, .text) where path != "-": return "--passphrase-file \(ShellText.fileArgument(path))"
            case (.passphrase, .bytes) where path != "-": return "--key-file \(ShellText.fileArgument(path))"
            case (.passphrase, _): kind = "passphrase-file:\(path)"
            case (.aesKey, _): kind = "raw-key-file:\(path)"
            case (.volumeKey, _): kind = "volume-key-file:\(path)"
            }
        case .descriptor(let number): kind = "fd:\(number)"
        case .command: return "--secret \(form.rawValue):command:COMMAND"
        case .credential(let name): kind = "credential:\(name)"
        case .keyring(let key): kind = "keyring:\(key.shown)"
        case .libvirtSecret(let uuid): kind = "libvirt-secret:\(uuid)"
        case .ciphertext, .wrapped: kind = "SOURCE"
        }
        return "--secret \(ShellText.quoted("\(form.rawValue):\(kind)"))"
    }
}
