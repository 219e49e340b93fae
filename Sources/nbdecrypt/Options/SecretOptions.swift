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
            Read the passphrase from a file; one newline at its end is not part of it. "-" is standard input. This and \
            the next two options can be repeated: every secret is tried.
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
            Use this secret for layer n of a chain of images and no other; 0 is the image that is named, and "overlay" the \
            file of --overlay-file. The source is passphrase-file:PATH, key-file:PATH or fd:N. Can be repeated.
            """, valueName: "n=source"))
    var secret: [LayerSecret] = []

    /// Only there to say why it is not.
    @Option(name: .customLong("passphrase"), help: .hidden)
    var passphraseOnCommandLine: String?

    /// Where they are, in the order in which they are tried.
    ///
    /// - Parameter directory: in which relative paths start; nil: the working directory.
    func places(from directory: FilePath? = nil) -> SecretPlaces {
        var places = SecretPlaces()
        places.passphrases = sources.map { $0.located(from: directory) }
        places.pinned = secret.map { ($0.use, $0.source.located(from: directory)) }
        places.aesKey = rawKeyFile.map { .rawKeyFile($0).located(from: directory) }
        places.volumeKeys = volumeKeyFile.map { .volumeKeyFile($0).located(from: directory) }
        return places
    }

    /// All sources of passphrases that were named, but for those of one layer.
    private var sources: [SecretSource] {
        passphraseFile.map(SecretSource.passphraseFile) + passphraseFd.map(SecretSource.passphraseDescriptor)
            + keyFile.enumerated().map { index, path in
                .keyFile(
                    path, offset: keyFileOffset.isEmpty ? 0 : keyFileOffset[index],
                    size: keyFileSize.isEmpty || keyFileSize[index] == 0 ? nil : keyFileSize[index])
            }
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
        let descriptors =
            passphraseFd
            + secret.compactMap { pin in
                if case .passphraseDescriptor(let number) = pin.source { number } else { nil }
            }
        guard Set(descriptors).count == descriptors.count else {
            throw ValidationError("A descriptor can be read only once: each --passphrase-fd needs another number.")
        }
        let pinnedFiles = secret.compactMap { pin in
            switch pin.source {
            case .passphraseFile(let path), .keyFile(let path, _, _): path
            case .passphraseDescriptor, .rawKeyFile, .volumeKeyFile: nil as String?
            }
        }
        let files = passphraseFile + keyFile + volumeKeyFile + pinnedFiles + [rawKeyFile].compactMap { $0 }
        guard files.count(where: { $0 == "-" }) + descriptors.count(where: { $0 == 0 }) <= 1 else {
            throw ValidationError("Standard input can be read only once.")
        }
        guard rawKeyFile == nil || (sources.isEmpty && volumeKeyFile.isEmpty) else {
            throw ValidationError("--raw-key-file is the key itself: no other secret can be given with it.")
        }
    }
}

/// A secret for one layer of a chain, as in "1=key-file:/root/base.key", or for "overlay".
struct LayerSecret: ExpressibleByArgument {
    let use: SecretUse
    let source: SecretSource

    init?(argument: String) {
        guard let equals = argument.firstIndex(of: "=") else { return nil }
        if argument[..<equals] == "overlay" {
            use = .passphraseOfOverlay
        } else {
            guard let layer = Int(argument[..<equals]), layer >= 0 else { return nil }
            use = .passphraseOfLayer(layer)
        }
        guard let source = SecretSource(text: argument[argument.index(after: equals)...]) else { return nil }
        if case .rawKeyFile = source { return nil }
        self.source = source
    }
}
