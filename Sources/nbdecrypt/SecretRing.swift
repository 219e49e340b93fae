// SPDX-License-Identifier: Apache-2.0

import Crypto
import Logging

/// The secrets that are there to open an image: those of the options, or what a person types.
///
/// Each is read once and tried on every layer. Releasing the ring wipes them.
final class SecretRing {
    /// How often a person may type a passphrase.
    static let maximumAttempts = 3

    /// A secret for one layer.
    private struct Pinned {
        let layer: Int
        let secret: LUKSUnlock.NamedSecret
    }

    private let options: SecretOptions
    private let termination: Termination
    private let log: Logger
    /// Read when first needed: an image that cannot be opened at all is told before.
    private lazy var named = Result { try Self.different(options.sources.map { try $0.read() }) }
    private lazy var givenVolumeKeys = Result {
        try options.volumeKeyFile.map { try SecretSource.volumeKeyFile($0).read() }
    }
    private lazy var pinned = Result {
        try options.pinned.map { pin in Pinned(layer: pin.layer, secret: try pin.source.read()) }
    }
    private var isUsed = false
    private var typed: [LUKSUnlock.NamedSecret] = []

    init(_ options: SecretOptions, termination: Termination, log: Logger) {
        self.options = options
        self.termination = termination
        self.log = log
    }

    /// The sources named on the command line, for a warning that they are not used; nil when there are none.
    var names: String? {
        let keys = [options.rawKeyFile].compactMap { $0.map(SecretSource.rawKeyFile) }
        let sources =
            options.sources + options.pinned.map(\.source) + keys
            + options.volumeKeyFile.map(SecretSource.volumeKeyFile)
        return sources.isEmpty ? nil : sources.map(\.name).joined(separator: ", ")
    }

    /// The 16 key bytes of an AES image, if they were given.
    /// - Throws: ``Failure``.
    func rawKey() throws -> LUKSUnlock.NamedSecret? {
        isUsed = true
        return try options.rawKeyFile.map { try SecretSource.rawKeyFile($0).read() }
    }

    /// The volume keys of LUKS containers that were given.
    /// - Throws: ``Failure``.
    func volumeKeys() throws -> [LUKSUnlock.NamedSecret] {
        let keys = try givenVolumeKeys.get()
        if !keys.isEmpty { isUsed = true }
        return keys
    }

    /// Does this layer have secrets of its own?
    func isPinned(_ layer: Int?) -> Bool { options.pinned.contains { $0.layer == layer } }

    /// Were passphrases named for this layer?
    func hasPassphrases(for layer: Int?) -> Bool {
        !options.sources.isEmpty || isPinned(layer)
    }

    /// Gives `attempt` the secrets; asks a person, three times, when none were named.
    ///
    /// - Parameters:
    ///   - layer: of the chain; secrets that are pinned to it are the only ones then.
    ///   - attempt: throws a ``Failure`` with status 77 when none of them fits.
    func open<Result>(
        _ what: String, layer: Int?, _ attempt: ([LUKSUnlock.NamedSecret]) throws -> Result
    ) throws -> Result {
        let pinned = try self.pinned.get().filter { $0.layer == layer }.map(\.secret)
        isUsed = true
        guard pinned.isEmpty else { return try attempt(pinned) }
        let secrets = try named.get()
        guard secrets.isEmpty else { return try attempt(secrets) }
        // Another layer may have the passphrase of this one.
        if !typed.isEmpty, let result = try Self.unlessWrong({ try attempt(typed) }) { return result }
        for number in 1...Self.maximumAttempts {
            let secret = try ask(what)
            do {
                let result = try attempt([secret])
                typed.append(secret)
                return result
            } catch let failure as Failure where failure.isOfSecret && number < Self.maximumAttempts {
                log.error("\(failure)")
            }
        }
        // The last attempt returns or throws.
        throw Failure(.wrongPassphrase, "\(what): no passphrase fits")
    }

    /// The secrets that were named, or the one that a person types.
    /// - Throws: ``Failure``.
    func all(_ what: String) throws -> [LUKSUnlock.NamedSecret] {
        let secrets = try named.get()
        return try secrets.isEmpty ? [ask(what)] : secrets
    }

    /// Without those that hold the bytes of one before: each try of a secret costs a key derivation.
    private static func different(_ secrets: [LUKSUnlock.NamedSecret]) -> [LUKSUnlock.NamedSecret] {
        secrets.enumerated().filter { index, secret in
            !secrets[..<index].contains { $0.isMissing == secret.isMissing && $0.secret.equals(secret.secret) }
        }.map(\.element)
    }

    private static func unlessWrong<Result>(_ body: () throws -> Result) throws -> Result? {
        do { return try body() } catch let failure as Failure where failure.isOfSecret { return nil }
    }

    private func ask(_ what: String) throws -> LUKSUnlock.NamedSecret {
        guard let passphrase = try Terminal.askPassphrase("Passphrase for \(what): ", termination) else {
            throw Failure(
                .wrongPassphrase,
                "\(what) is encrypted and there is no terminal to ask for its passphrase; "
                    + "give it with --passphrase-file FILE (- for standard input) or --passphrase-fd N")
        }
        return LUKSUnlock.NamedSecret(
            name: "the passphrase from the terminal", secret: passphrase, isMissing: passphrase.count == 0)
    }

    /// To be called when all layers are open: a secret that no layer has asked for may be a mistake.
    func warnIfUnused() {
        guard !isUsed, let names else { return }
        log.warning(
            "nothing that \(names) could open was found in the image, or in the part of it that is served: it is not used"
        )
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
