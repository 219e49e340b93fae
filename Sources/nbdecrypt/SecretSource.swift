// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Crypto
import SystemPackage

/// Where a passphrase or key comes from.
enum SecretSource {
    /// Text; one trailing newline is not part of it. "-" is standard input.
    case passphraseFile(String)
    /// Text, as above.
    case passphraseDescriptor(Int32)
    /// The bytes of a passphrase as they are.
    case keyFile(String)
    /// The 16 key bytes of an AES image themselves.
    case rawKeyFile(String)
    /// A person at the terminal.
    case prompt

    /// How messages name it; never its contents.
    var name: String {
        switch self {
        case .passphraseFile("-"): "standard input"
        case .passphraseFile(let path): "the passphrase file \(path)"
        case .passphraseDescriptor(let number): "descriptor \(number)"
        case .keyFile(let path): "the key file \(path)"
        case .rawKeyFile(let path): "the raw key file \(path)"
        case .prompt: "the terminal"
        }
    }

    /// Reads the secret.
    /// - Throws: ``Failure``.
    func read(image: String, _ termination: Termination) throws -> Secret {
        switch self {
        case .passphraseFile("-"): try Self.read(.standardInput, name).droppingTrailingNewline()
        case .passphraseFile(let path): try Self.read(path: path, name).droppingTrailingNewline()
        case .passphraseDescriptor(let number):
            try Self.read(FileDescriptor(rawValue: number), name).droppingTrailingNewline()
        case .keyFile(let path), .rawKeyFile(let path): try Self.read(path: path, name)
        case .prompt: try Self.ask(image, termination)
        }
    }

    private static func ask(_ image: String, _ termination: Termination) throws -> Secret {
        guard let passphrase = try Terminal.askPassphrase("Passphrase for \(image): ", termination) else {
            throw Failure(
                .wrongPassphrase,
                "\(image) is encrypted and there is no terminal to ask for its passphrase; "
                    + "give it with --passphrase-file FILE (- for standard input) or --passphrase-fd N")
        }
        return passphrase
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

/// The options that name a secret.
struct SecretOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Read the passphrase from a file; one newline at its end is not part of it. \"-\" is standard input.",
            valueName: "path"))
    var passphraseFile: String?

    @Option(name: .long, help: ArgumentHelp("Read the passphrase from an open descriptor.", valueName: "n"))
    var passphraseFd: Int32?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Use all bytes of a file as the passphrase, a newline at its end too.", valueName: "path"))
    var keyFile: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "For AES images: use the 16 bytes of a file as the key itself.", valueName: "path"))
    var rawKeyFile: String?

    /// Only there to say why it is not.
    @Option(name: .customLong("passphrase"), help: .hidden)
    var passphraseOnCommandLine: String?

    /// All sources that were named.
    private var sources: [SecretSource] {
        [
            passphraseFile.map(SecretSource.passphraseFile), passphraseFd.map(SecretSource.passphraseDescriptor),
            keyFile.map(SecretSource.keyFile), rawKeyFile.map(SecretSource.rawKeyFile),
        ].compactMap { $0 }
    }

    /// The source to use: the one that was named, else a person.
    var source: SecretSource { sources.first ?? .prompt }

    func validate() throws {
        guard passphraseOnCommandLine == nil else {
            throw ValidationError(
                "A passphrase on the command line can be seen by everybody; write it to a file and give "
                    + "--passphrase-file FILE, or leave it out to be asked.")
        }
        guard sources.count <= 1 else {
            throw ValidationError(
                "Only one of --passphrase-file, --passphrase-fd, --key-file and --raw-key-file can be given.")
        }
    }
}
