// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import DiskStack
import SystemPackage

/// The options that name secrets. All that can be repeated are tried.
struct SecretOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            Read the passphrase from a file; one newline at its end is not part of it. "-" is standard input. All \
            of these but --raw-key-file can be repeated: every secret is tried.
            """, valueName: "path"))
    var passphraseFile: [String] = []

    @Option(name: .long, help: ArgumentHelp("Read the passphrase from an open descriptor.", valueName: "n"))
    var passphraseFd: [Int32] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Use all bytes of a file as the passphrase, a newline at its end too. \"-\" is standard input.",
            valueName: "path"))
    var keyFile: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Skip so many bytes of the key file. With several key files, give it once for each, in their order.",
            valueName: "bytes"))
    var keyFileOffset: [UInt64] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Use only so many bytes of the key file (0: all). With several key files, give it once for each, in their order.",
            valueName: "bytes"))
    var keyFileSize: [Int] = []

    @Option(
        name: .long,
        help: ArgumentHelp("For AES images: use the 16 bytes of a file as the key itself.", valueName: "path"))
    var rawKeyFile: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "For LUKS: use the bytes of a file as the volume key; no keyslot is needed. Can be repeated.",
            valueName: "path"))
    var volumeKeyFile: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            Run a command with the shell, without input; what it prints is the passphrase, but for one newline at its end. \
            What it says to standard error is shown.
            """, valueName: "command"))
    var passphraseCommand: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Use a credential of the service manager, a file in $CREDENTIALS_DIRECTORY, but for one newline at its end.",
            valueName: "name"))
    var credential: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Use all bytes of a key in the keyrings of this process, session and user, of type user unless %TYPE: is before it.",
            valueName: "description"))
    var keyring: [KeyringKey] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Use all bytes of a secret that libvirt keeps, as virsh secret-get-value prints it.", valueName: "uuid"))
    var libvirtSecret: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Use a secret as QEMU's option of the same name has it: file, format, keyid, iv. One that is the key of others is not tried.",
            valueName: "secret,id=…"))
    var object: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            Use a secret in another form, or for one layer: [n=][FORM:]KIND:PLACE. With n=, it is for layer n of a chain of \
            images and no other is; 0 is the image that is named, "overlay" an overlay file. The form is text, bytes, hex or \
            base64. The kind is passphrase-file, key-file, raw-key-file, volume-key-file, fd, command, \
            credential, keyring or libvirt-secret.
            """, valueName: "[n=]source"))
    var secret: [LayerSecret] = []

    /// Only there to say why it is not.
    @Option(name: .customLong("passphrase"), help: .hidden)
    var passphraseOnCommandLine: String?

    /// Where they are, in the order in which they are tried.
    ///
    /// - Parameter directory: in which relative paths start; nil: the working directory.
    func places(from directory: FilePath? = nil) -> SecretPlaces {
        var places = SecretPlaces()
        for source in sources { places.add(source.located(from: directory)) }
        places.pinned = secret.compactMap { secret in
            secret.use.map { ($0, secret.source.located(from: directory)) }
        }
        return places
    }

    /// All that are for every layer, by option.
    private var sources: [SecretSource] {
        let files =
            passphraseFile.map(SecretSource.passphraseFile) + passphraseFd.map(SecretSource.passphraseDescriptor)
            + keyFile.enumerated().map { index, path in
                .keyFile(
                    path, offset: keyFileOffset.isEmpty ? 0 : keyFileOffset[index],
                    size: keyFileSize.isEmpty || keyFileSize[index] == 0 ? nil : keyFileSize[index])
            }
        let others =
            passphraseCommand.map(SecretSource.command) + credential.map(SecretSource.credential)
            + keyring.map(SecretSource.keyring) + libvirtSecret.map(SecretSource.libvirtSecret)
            // Checked before.
            + ((try? QEMUSecretObjects(object).sources) ?? [])
        let keys = volumeKeyFile.map(SecretSource.volumeKeyFile) + (rawKeyFile.map { [.rawKeyFile($0)] } ?? [])
        return SecretSource.numbered(files + others + secret.filter { $0.use == nil }.map(\.source) + keys)
    }

    /// Is one of them in standard input or behind a descriptor, which can be read once?
    var isReadOnce: Bool { places().all.contains(where: \.isReadOnce) }

    /// Is one of them standard input?
    var readsStandardInput: Bool { places().all.contains(where: \.isStandardInput) }

    func validate() throws {
        guard passphraseOnCommandLine == nil else {
            throw ValidationError(
                "A passphrase on the command line can be seen by everybody; write it to a file and give "
                    + "--passphrase-file FILE, or leave it out to be asked.")
        }
        for (name, count) in [("offset", keyFileOffset.count), ("size", keyFileSize.count)] where count > 0 {
            guard count == keyFile.count else {
                throw ValidationError(
                    "--key-file-\(name) says what to use of a --key-file: give it once for each of them, in their order, "
                        + "and 0 where nothing is to be left out.")
            }
        }
        guard keyFileSize.allSatisfy({ $0 >= 0 }) else {
            throw ValidationError("--key-file-size takes no negative number.")
        }
        for name in credential where !SecretOrigin.isCredentialName(name) {
            throw ValidationError(
                "--credential takes the name of a credential, without slashes: it is looked for in $CREDENTIALS_DIRECTORY "
                    + "alone. A file of another place goes with --passphrase-file.")
        }
        guard libvirtSecret.allSatisfy(SecretOrigin.isUUID) else {
            throw ValidationError("--libvirt-secret takes a UUID; `virsh secret-list` shows them.")
        }
        _ = try QEMUSecretObjects(object)
        let all = sources + secret.filter { $0.use != nil }.map(\.source)
        let descriptors = all.compactMap(\.origin.descriptor)
        guard Set(descriptors).count == descriptors.count else {
            throw ValidationError("A descriptor can be read only once: each --passphrase-fd needs another number.")
        }
        guard all.count(where: \.isStandardInput) <= 1 else {
            throw ValidationError("Standard input can be read only once.")
        }
        let aesKeyCount = sources.count { $0.role == .aesKey }
        guard aesKeyCount == 0 || sources.count == 1 else {
            throw ValidationError("--raw-key-file is the key itself: no other secret can be given with it.")
        }
    }

    /// The descriptors that are read.
    var descriptors: [Int32] { places().all.compactMap(\.origin.descriptor) }
}

/// A secret for all layers of a chain, or for one, as in "1=key-file:/root/base.key", or for "overlay".
struct LayerSecret: ExpressibleByArgument {
    /// Nil: all.
    let use: SecretUse?
    let source: SecretSource

    init?(argument: String) {
        // A command may have an = of its own.
        let layer = argument.prefix { $0 != "=" && $0 != ":" }
        let isPinned = argument[layer.endIndex...].first == "="
        if !isPinned {
            use = nil
        } else if layer == "overlay" {
            use = .passphraseOfOverlay
        } else {
            guard let number = Int(layer), number >= 0 else { return nil }
            use = .passphraseOfLayer(number)
        }
        guard let source = SecretSource(text: isPinned ? argument[layer.endIndex...].dropFirst() : argument[...]),
            !isPinned || source.role == .passphrase
        else { return nil }
        self.source = source
    }
}
