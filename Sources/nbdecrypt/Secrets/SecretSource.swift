// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import SystemPackage

/// Where a passphrase or key comes from.
enum SecretSource {
    /// Text; one trailing newline is not part of it. "-" is standard input.
    case passphraseFile(String)
    /// Text, as above.
    case passphraseDescriptor(Int32)
    /// The bytes of a passphrase as they are: `size` bytes from `offset` on, or all that follow. "-" is standard input.
    case keyFile(String, offset: UInt64 = 0, size: Int? = nil)
    /// The 16 key bytes of an AES image themselves.
    case rawKeyFile(String)
    /// The key that a LUKS header protects.
    case volumeKeyFile(String)

    /// In one word, as in "key-file:/root/base.key".
    init?(text: some StringProtocol) {
        guard let colon = text.firstIndex(of: ":") else { return nil }
        let place = String(text[text.index(after: colon)...])
        guard !place.isEmpty else { return nil }
        switch text[..<colon] {
        case "passphrase-file": self = .passphraseFile(place)
        case "key-file": self = .keyFile(place)
        case "raw-key-file": self = .rawKeyFile(place)
        case "fd":
            guard let number = Int32(place), number >= 0 else { return nil }
            self = .passphraseDescriptor(number)
        default: return nil
        }
    }

    /// How messages name it; never its contents.
    var name: String {
        switch self {
        case .passphraseFile("-"): "the passphrase from standard input"
        case .keyFile("-", _, _): "the key from standard input"
        case .passphraseFile(let path): "the passphrase file \(path)"
        case .passphraseDescriptor(let number): "the passphrase from descriptor \(number)"
        case .keyFile(let path, _, _): "the key file \(path)"
        case .rawKeyFile(let path): "the raw key file \(path)"
        case .volumeKeyFile("-"): "the volume key from standard input"
        case .volumeKeyFile(let path): "the volume key file \(path)"
        }
    }

    /// The same, with its path for this process.
    ///
    /// - Parameter directory: in which a relative path starts; nil: the working directory.
    func located(from directory: FilePath?) -> SecretSource {
        func located(_ path: String) -> String { path == "-" ? path : PathArgument.path(path, from: directory) }
        return switch self {
        case .passphraseFile(let path): .passphraseFile(located(path))
        case .passphraseDescriptor: self
        case .keyFile(let path, let offset, let size): .keyFile(located(path), offset: offset, size: size)
        case .rawKeyFile(let path): .rawKeyFile(located(path))
        case .volumeKeyFile(let path): .volumeKeyFile(located(path))
        }
    }

    /// Is it standard input or behind a descriptor?
    var isReadOnce: Bool {
        switch self {
        case .passphraseDescriptor: true
        case .passphraseFile(let path), .keyFile(let path, _, _), .rawKeyFile(let path), .volumeKeyFile(let path):
            path == "-"
        }
    }

    /// Is it standard input, by either name?
    var isStandardInput: Bool {
        if case .passphraseDescriptor(let number) = self { number == 0 } else { isReadOnce }
    }

    /// Reads the secret.
    /// - Throws: ``OpeningError``.
    func read() throws(OpeningError) -> NamedSecret {
        switch self {
        case .passphraseFile(let path): try text(open(path))
        case .passphraseDescriptor(let number): try text(.init(FileDescriptor(rawValue: number), isOurs: false))
        case .keyFile(let path, let offset, let size): try part(open(path), offset, size)
        case .rawKeyFile(let path), .volumeKeyFile(let path): try named(bytes(open(path), 0, nil))
        }
    }

    /// What to type when the secret does not fit, from what the file holds.
    private func hints(_ all: Secret) -> NamedSecret.Hints {
        let shape = SecretShape(all)
        var hints = NamedSecret.Hints()
        switch self {
        case .passphraseFile(let path):
            hints.encoding = shape.encodingHint(file: file(path), option: "--key-file")
            hints.newline = shape.newlineHint(file: file(path), wasDropped: true)
        case .passphraseDescriptor:
            hints.encoding = shape.encodingHint(file: nil, option: "--key-file")
            hints.newline = shape.newlineHint(file: nil, wasDropped: true)
        case .keyFile(let path, _, _):
            hints.encoding = shape.encodingHint(file: file(path), option: "--key-file")
            hints.newline = shape.newlineHint(file: file(path), wasDropped: false)
        case .rawKeyFile(let path): hints.encoding = shape.encodingHint(file: file(path), option: "--raw-key-file")
        case .volumeKeyFile(let path):
            hints.encoding = shape.encodingHint(file: file(path), option: "--volume-key-file")
        }
        return hints
    }

    private func file(_ path: String) -> String? { path == "-" ? nil : ShellText.fileArgument(path) }

    /// An open file, which is closed if it was opened for this.
    private struct Input {
        let descriptor: FileDescriptor
        let isOurs: Bool

        init(_ descriptor: FileDescriptor, isOurs: Bool) {
            self.descriptor = descriptor
            self.isOurs = isOurs
        }
    }

    private func open(_ path: String) throws(OpeningError) -> Input {
        guard path != "-" else { return Input(.standardInput, isOurs: false) }
        do {
            return Input(try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec), isOurs: true)
        } catch {
            throw OpeningError(.cannotOpen, "cannot open \(name): \(error); check the name")
        }
    }

    private func named(_ secret: Secret) -> NamedSecret {
        NamedSecret(name: name, secret: secret, isMissing: secret.count == 0, hints: hints(secret))
    }

    private func text(_ input: Input) throws(OpeningError) -> NamedSecret {
        let secret = try bytes(input, 0, nil)
        // A newline alone is the empty passphrase; nothing at all may be a mistake.
        return NamedSecret(
            name: name, secret: secret.droppingTrailingNewline(), isMissing: secret.count == 0, hints: hints(secret))
    }

    private func part(_ input: Input, _ offset: UInt64, _ size: Int?) throws(OpeningError) -> NamedSecret {
        let secret = try bytes(input, offset, size)
        guard offset == 0 || secret.count > 0 else {
            throw OpeningError(.wrongSecret, "\(name) has no byte at --key-file-offset \(offset)")
        }
        guard secret.count == size ?? secret.count else {
            throw OpeningError(
                .wrongSecret,
                "\(name) holds \(secret.count) bytes from byte \(offset) on, fewer than --key-file-size \(size ?? 0)")
        }
        return named(secret)
    }

    private func bytes(_ input: Input, _ offset: UInt64, _ size: Int?) throws(OpeningError) -> Secret {
        defer { if input.isOurs { try? input.descriptor.close() } }
        let secret: Secret?
        do { secret = try Secret.read(from: input.descriptor, offset: offset, limit: size) } catch {
            let advice = input.isOurs ? "is it the right file?" : "open a descriptor in the shell with N<FILE"
            throw OpeningError(.cannotOpen, "cannot read \(name): \(error); \(advice)")
        }
        guard let secret else {
            throw OpeningError(
                .wrongSecret,
                "\(name) holds more than \(Secret.maximumCount) bytes; is it the right file? Of a large one, name a part with "
                    + "--key-file-offset and --key-file-size")
        }
        return secret
    }
}
