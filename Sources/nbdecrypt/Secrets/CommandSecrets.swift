// SPDX-License-Identifier: Apache-2.0

import Crypto
import DiskStack
import Logging

/// The secrets that the options of a command name, or else what a person types.
final class CommandSecrets: SecretProvider {
    /// A secret for one layer.
    private struct Pinned {
        let layer: Int
        let secret: NamedSecret
    }

    private let options: SecretOptions
    private let termination: Termination
    /// All at once, so that a file that is missing is told of, whichever layers there are.
    private lazy var pinned = Result { () throws(OpeningError) in
        var secrets: [Pinned] = []
        for pin in options.pinned { secrets.append(Pinned(layer: pin.layer, secret: try pin.source.read())) }
        return secrets
    }

    init(_ options: SecretOptions, termination: Termination) {
        self.options = options
        self.termination = termination
    }

    var names: [String] {
        let keys = [options.rawKeyFile].compactMap { $0.map(SecretSource.rawKeyFile) }
        let sources =
            options.sources + options.pinned.map(\.source) + keys
            + options.volumeKeyFile.map(SecretSource.volumeKeyFile)
        return sources.map(\.name)
    }

    func has(_ use: SecretUse) -> Bool {
        switch use {
        case .passphrase: !options.sources.isEmpty
        case .passphraseOfLayer(let layer): options.pinned.contains { $0.layer == layer }
        case .aesKey: options.rawKeyFile != nil
        case .volumeKey: !options.volumeKeyFile.isEmpty
        }
    }

    func secrets(for use: SecretUse) throws(OpeningError) -> [NamedSecret] {
        switch use {
        case .passphrase:
            _ = try pinned.get()
            return try read(options.sources)
        case .passphraseOfLayer(let layer): return try pinned.get().filter { $0.layer == layer }.map(\.secret)
        case .aesKey: return try read([options.rawKeyFile].compactMap { $0.map(SecretSource.rawKeyFile) })
        case .volumeKey: return try read(options.volumeKeyFile.map(SecretSource.volumeKeyFile))
        }
    }

    private func read(_ sources: [SecretSource]) throws(OpeningError) -> [NamedSecret] {
        var secrets: [NamedSecret] = []
        for source in sources { secrets.append(try source.read()) }
        return secrets
    }

    func ask(for name: String) throws(OpeningError) -> NamedSecret {
        guard let passphrase = try Terminal.askPassphrase("Passphrase for \(name): ", termination) else {
            throw OpeningError(
                .wrongSecret,
                "\(name) is encrypted and there is no terminal to ask for its passphrase; "
                    + "give it with --passphrase-file FILE (- for standard input) or --passphrase-fd N")
        }
        return NamedSecret(
            name: "the passphrase from the terminal", secret: passphrase, isMissing: passphrase.count == 0)
    }

    /// To be called when all keys are in use.
    static func warnUnlessLocked(_ log: Logger) {
        guard !areSecretsLocked else { return }
        log.warning(
            "passphrases and keys cannot all be locked into memory and may reach the swap; raise RLIMIT_MEMLOCK (ulimit -l)"
        )
    }

    /// False once something secret could not be locked.
    static var areSecretsLocked: Bool { SecureHeap.isLocked && Secret.allAreLocked }
}
