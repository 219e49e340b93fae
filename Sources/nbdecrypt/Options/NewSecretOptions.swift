// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import Crypto
import DiskStack

/// The options that name the secret of a new image.
struct NewSecretOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Read the passphrase of the new image from a file; one newline at its end is not part of it.",
            valueName: "path"))
    var newPassphraseFile: String?

    @Option(
        name: .long, help: ArgumentHelp("Read the passphrase of the new image from an open descriptor.", valueName: "n")
    )
    var newPassphraseFd: Int32?

    @Option(
        name: .long,
        help: ArgumentHelp("Use all bytes of a file as the passphrase of the new image.", valueName: "path"))
    var newKeyFile: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            Where the secret of the new image is, as --secret has it: [FORM:]KIND:PLACE, as in "command:pass show disk" or \
            "hex:key-file:disk.key".
            """, valueName: "source"))
    var newSecret: NewSecret?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long a passphrase of the new image takes to be tried on this machine, in milliseconds (default: what qemu-img or cryptsetup has, 2000).",
            valueName: "ms"))
    var iterTime: Int?

    /// Only there to say why it is not.
    @Option(name: .customLong("new-passphrase"), help: .hidden)
    var newPassphraseOnCommandLine: String?

    private var sources: [SecretSource] {
        [
            newPassphraseFile.map(SecretSource.passphraseFile),
            newPassphraseFd.map(SecretSource.passphraseDescriptor), newKeyFile.map { .keyFile($0) }, newSecret?.source,
        ].compactMap { $0 }
    }

    var isEmpty: Bool { sources.isEmpty }

    /// Does it come from standard input?
    var isStandardInput: Bool { sources.contains(where: \.isStandardInput) }

    /// The descriptor that is read, if it is one.
    var descriptor: Int32? { sources.compactMap(\.origin.descriptor).first }

    func validate() throws {
        guard newPassphraseOnCommandLine == nil else {
            throw ValidationError(
                "A passphrase on the command line can be seen by everybody; write it to a file and give "
                    + "--new-passphrase-file FILE, or leave it out to be asked.")
        }
        guard iterTime.map({ (1...60_000).contains($0) }) ?? true else {
            throw ValidationError("--iter-time takes a number of milliseconds from 1 to 60000.")
        }
        guard sources.count <= 1 else { throw ValidationError("A new image has one secret: give one of its options.") }
    }

    /// The secret that is named, or one that a person types twice.
    ///
    /// - Parameter image: the name of the new image.
    /// - Throws: ``OpeningError``.
    func read(for image: String, _ termination: Termination) throws(OpeningError) -> NamedSecret {
        if let source = sources.first {
            let secret = try source.read(termination)
            guard !secret.isMissing else { throw OpeningError(.wrongSecret, "\(secret.name) is empty") }
            return secret
        }
        let prompt = "New passphrase for \(image): "
        guard let secret = try Terminal.askPassphrase(prompt, termination),
            let again = try Terminal.askPassphrase("The same once more: ", termination)
        else {
            throw OpeningError(
                .wrongSecret,
                "\(image) needs a passphrase and there is no terminal to ask for it; "
                    + "give it with --new-passphrase-file FILE (- for standard input) or --new-passphrase-fd N")
        }
        guard secret.equals(again) else {
            throw OpeningError(.wrongSecret, "the two passphrases are not the same; nothing has been made")
        }
        guard secret.count > 0 else {
            throw OpeningError(.wrongSecret, "an empty passphrase protects nothing; nothing has been made")
        }
        return NamedSecret(name: "the passphrase from the terminal", secret: secret, isMissing: false)
    }
}

/// Where the passphrase of a new image is.
struct NewSecret: ExpressibleByArgument {
    let source: SecretSource

    init?(argument: String) {
        guard let source = SecretSource(text: argument), source.role == .passphrase else { return nil }
        self.source = source
    }
}
