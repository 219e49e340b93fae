// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import Logging

/// The secrets that options name, or else what a person types.
final class CommandSecrets: SecretProvider {
    /// A secret for one use.
    private struct Pinned {
        let use: SecretUse
        let secret: NamedSecret
    }

    private let places: SecretPlaces
    private let termination: Termination
    /// All at once, so that a file that is missing is told of, whichever layers there are.
    private lazy var pinned = Result { () throws(OpeningError) in
        var secrets: [Pinned] = []
        for pin in places.pinned { secrets.append(Pinned(use: pin.use, secret: try pin.source.read(termination))) }
        return secrets
    }

    init(_ places: SecretPlaces, termination: Termination) {
        self.places = places
        self.termination = termination
    }

    var names: [String] { places.ofImage.map(\.name) }

    var pinnedLayers: [Int] { places.pinnedLayers }

    func has(_ use: SecretUse) -> Bool {
        switch use {
        case .passphrase: !places.passphrases.isEmpty
        case .passphraseOfLayer, .passphraseOfOverlay: places.pinned.contains { $0.use == use }
        case .aesKey: places.aesKey != nil
        case .volumeKey: !places.volumeKeys.isEmpty
        }
    }

    func secrets(for use: SecretUse) throws(OpeningError) -> [NamedSecret] {
        switch use {
        case .passphrase:
            _ = try pinned.get()
            return try read(places.passphrases)
        case .passphraseOfLayer, .passphraseOfOverlay:
            return try pinned.get().filter { $0.use == use }.map(\.secret)
        case .aesKey: return try read([places.aesKey].compactMap { $0 })
        case .volumeKey: return try read(places.volumeKeys)
        }
    }

    private func read(_ sources: [SecretSource]) throws(OpeningError) -> [NamedSecret] {
        var secrets: [NamedSecret] = []
        for source in sources { secrets.append(try source.read(termination)) }
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
    static var areSecretsLocked: Bool { SecureHeap.isLocked && WipedBytes.allAreLocked }
}
