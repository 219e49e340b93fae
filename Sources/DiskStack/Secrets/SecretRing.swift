// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto

/// The secrets that are there to open an image: those that a ``SecretProvider`` has, or what a person types.
///
/// Each is read once and tried on every layer. Releasing the ring wipes them.
package final class SecretRing {
    /// How often a person may type a passphrase.
    static let maximumAttempts = 3

    private let provider: any SecretProvider
    private let log: OpeningLog
    /// Read when first needed: an image that cannot be opened at all is told before.
    private var known: [SecretUse: Result<[NamedSecret], OpeningError>] = [:]
    private var isUsed = false
    /// Of layers that have secrets of their own, and have asked for them.
    private var usedPins: Set<SecretUse> = []
    private var typed: [NamedSecret] = []

    package init(_ provider: any SecretProvider, log: OpeningLog) {
        self.provider = provider
        self.log = log
    }

    /// The sources that were named, for a warning that they are not used; nil when there are none.
    var names: String? {
        let names = provider.names
        return names.isEmpty ? nil : names.joined(separator: ", ")
    }

    private func secrets(_ use: SecretUse) throws(OpeningError) -> [NamedSecret] {
        if let known = known[use] { return try known.get() }
        let result: Result<[NamedSecret], OpeningError>
        do throws(OpeningError) {
            let secrets = try provider.secrets(for: use)
            result = .success(use == .passphrase ? Self.different(secrets) : secrets)
        } catch { result = .failure(error) }
        known[use] = result
        return try result.get()
    }

    /// The 16 key bytes of an AES image, if they were given.
    func rawKey() throws(OpeningError) -> NamedSecret? {
        isUsed = true
        return try secrets(.aesKey).first
    }

    /// The volume keys of LUKS containers that were given.
    func volumeKeys() throws(OpeningError) -> [NamedSecret] {
        let keys = try secrets(.volumeKey)
        if !keys.isEmpty { isUsed = true }
        return keys
    }

    /// Are there secrets for this use, which are then the only ones? Nil: there can be none.
    func isPinned(_ own: SecretUse?) -> Bool { own.map(provider.has) ?? false }

    /// Were passphrases named for it, or for all?
    func hasPassphrases(for own: SecretUse?) -> Bool { provider.has(.passphrase) || isPinned(own) }

    /// Gives `attempt` the secrets; asks a person, three times, when none were named.
    ///
    /// - Parameters:
    ///   - own: the use of secrets that are for it alone, and are the only ones when there are some; nil: there can be none.
    ///   - attempt: throws an ``OpeningError`` of a secret when none of them fits.
    func open<Result>(
        _ what: String, own: SecretUse?, _ attempt: ([NamedSecret]) throws -> Result
    ) throws -> Result {
        isUsed = true
        if let own, isPinned(own) {
            usedPins.insert(own)
            return try attempt(secrets(own))
        }
        let secrets = try secrets(.passphrase)
        guard secrets.isEmpty else { return try attempt(secrets) }
        // Another layer may have the passphrase of this one.
        if !typed.isEmpty, let result = try Self.unlessWrong({ try attempt(typed) }) { return result }
        for number in 1...Self.maximumAttempts {
            let secret = try provider.ask(for: what)
            do {
                let result = try attempt([secret])
                typed.append(secret)
                return result
            } catch let error as OpeningError where error.isOfSecret && number < Self.maximumAttempts {
                log.error("\(error)")
            }
        }
        // The last attempt returns or throws.
        throw OpeningError(.wrongSecret, "\(what): no passphrase fits")
    }

    /// The secrets that were named, or the one that a person types.
    ///
    /// - Parameter own: the use of secrets that are the only ones when there are some.
    func all(_ what: String, own: SecretUse) throws(OpeningError) -> [NamedSecret] {
        if isPinned(own) { return try secrets(own) }
        let secrets = try secrets(.passphrase)
        return try secrets.isEmpty ? [provider.ask(for: what)] : secrets
    }

    /// Without those that hold the bytes of one before: each try of a secret costs a key derivation.
    private static func different(_ secrets: [NamedSecret]) -> [NamedSecret] {
        secrets.enumerated().filter { index, secret in
            !secrets[..<index].contains { $0.isMissing == secret.isMissing && $0.secret.equals(secret.secret) }
        }.map(\.element)
    }

    private static func unlessWrong<Result>(_ body: () throws -> Result) throws -> Result? {
        do { return try body() } catch let error as OpeningError where error.isOfSecret { return nil }
    }

    /// So many layers are named at most.
    private static let shownLayers = 8

    /// Refuses secrets for layers that are not there.
    ///
    /// - Parameters:
    ///   - image: for messages.
    ///   - layers: the names of those that are there, the top first.
    /// - Throws: ``OpeningError``.
    func check(_ image: String, layers: [String]) throws(OpeningError) {
        guard let wrong = provider.pinnedLayers.first(where: { $0 >= layers.count }) else { return }
        let shown = layers.prefix(Self.shownLayers).enumerated().map { "\($0) (\($1))" }.joined(separator: ", ")
        let more = layers.count > Self.shownLayers ? ", … up to \(layers.count - 1)" : ""
        throw OpeningError(
            .usage,
            "\(image): a secret is given for layer \(wrong), and there is no such layer; there \(layers.count == 1 ? "is" : "are") "
                + "\(shown)\(more)")
    }

    /// To be called when all layers are open: a secret that no layer has asked for may be a mistake.
    func warnIfUnused() {
        guard isUsed else {
            guard let names else { return }
            log.warning(
                "nothing that \(names) could open was found in the image, or in the part of it that is opened: it is not used"
            )
            return
        }
        for layer in provider.pinnedLayers where !usedPins.contains(.passphraseOfLayer(layer)) {
            log.warning("the secret that is for layer \(layer) alone is not used: nothing in that layer has needed it")
        }
    }
}
