// SPDX-License-Identifier: Apache-2.0

import Crypto
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

    /// How messages name it; never its contents.
    var name: String {
        switch self {
        case .passphraseFile("-"), .keyFile("-", _, _): "standard input"
        case .passphraseFile(let path): "the passphrase file \(path)"
        case .passphraseDescriptor(let number): "descriptor \(number)"
        case .keyFile(let path, _, _): "the key file \(path)"
        case .rawKeyFile(let path): "the raw key file \(path)"
        case .volumeKeyFile(let path): "the volume key file \(path)"
        }
    }

    /// Reads the secret.
    /// - Throws: ``Failure``.
    func read() throws -> Secret {
        switch self {
        case .passphraseFile("-"): try Self.read(.standardInput, name).droppingTrailingNewline()
        case .passphraseFile(let path): try Self.read(path: path, name).droppingTrailingNewline()
        case .passphraseDescriptor(let number):
            try Self.read(FileDescriptor(rawValue: number), name).droppingTrailingNewline()
        case .keyFile(let path, let offset, let size):
            try Self.part(
                path == "-" ? Self.read(.standardInput, name) : Self.read(path: path, name), offset, size, name)
        case .rawKeyFile(let path), .volumeKeyFile(let path): try Self.read(path: path, name)
        }
    }

    private static func part(_ secret: Secret, _ offset: UInt64, _ size: Int?, _ name: String) throws -> Secret {
        guard let start = Int(exactly: offset), start < secret.count else {
            throw Failure(
                .wrongPassphrase,
                "\(name) holds \(secret.count) bytes, so nothing follows --key-file-offset \(offset)")
        }
        let rest = secret.count - start
        guard size ?? rest <= rest else {
            throw Failure(
                .wrongPassphrase,
                "\(name) holds \(rest) bytes from byte \(offset) on, fewer than --key-file-size \(size ?? rest)")
        }
        return start == 0 && (size ?? rest) == rest ? secret : secret.part(start..<(start + (size ?? rest)))
    }

    private static func read(path: String, _ name: String) throws -> Secret {
        let descriptor: FileDescriptor
        do { descriptor = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec) } catch {
            throw Failure(.cannotOpen, "cannot open \(name): \(error); check the name")
        }
        defer { try? descriptor.close() }
        return try read(descriptor, name)
    }

    private static func read(_ descriptor: FileDescriptor, _ name: String) throws -> Secret {
        let secret: Secret?
        do { secret = try Secret.read(from: descriptor) } catch {
            throw Failure(
                .cannotOpen, "cannot read \(name): \(error); open a descriptor in the shell with N<FILE")
        }
        guard let secret else {
            throw Failure(
                .wrongPassphrase, "\(name) holds more than \(Secret.maximumCount) bytes; is it the right file?")
        }
        guard secret.count > 0 else {
            throw Failure(.wrongPassphrase, "\(name) is empty; write the passphrase into it")
        }
        return secret
    }
}
