// SPDX-License-Identifier: Apache-2.0

import BlockIO
public import Crypto
import SystemPackage

/// A secret with the name of its source, for messages.
public typealias NamedSecret = LUKSUnlock.NamedSecret

/// What a secret is for.
public enum SecretUse: Hashable, Sendable {
    /// Tried on every layer that has no secrets of its own.
    case passphrase
    /// Tried on this layer of a chain alone, where 0 is the image that is named, and no other is.
    case passphraseOfLayer(Int)
    /// Tried on the file of an overlay alone, and no other is.
    case passphraseOfOverlay
    /// The 16 key bytes of an AES image themselves; one at most.
    case aesKey
    /// The key that a LUKS header protects.
    case volumeKey
}

/// Where the secrets come from that open an image: those that are there, and whoever can be asked.
///
/// It is called on the thread that opens the image, and may wait. ``GivenSecrets`` is one for programs that have them.
public protocol SecretProvider {
    /// The sources of the secrets that are there for what is in the image, for messages; never their contents.
    var names: [String] { get }

    /// The layers of a chain that have secrets of their own, by number; each is refused that an image does not have.
    var pinnedLayers: [Int] { get }

    /// Are there secrets for this use? None is read to find out.
    func has(_ use: SecretUse) -> Bool

    /// Reads the secrets for a use, in the order in which they are tried. It is called once for each use at most, when they
    /// are needed: an image that cannot be opened at all is told of before.
    /// - Throws: ``OpeningError`` when one cannot be read.
    func secrets(for use: SecretUse) throws(OpeningError) -> [NamedSecret]

    /// Asks a person for a passphrase, up to three times, when none is there.
    ///
    /// - Parameter name: of what it opens.
    /// - Throws: ``OpeningError`` when there is nobody to ask, or when they do not want to say.
    func ask(for name: String) throws(OpeningError) -> NamedSecret
}

extension SecretProvider {
    /// None has.
    public var pinnedLayers: [Int] { [] }
}

/// Passphrases that a program has already. Nobody is asked.
public struct GivenSecrets: SecretProvider {
    private let passphrases: [NamedSecret]

    /// - Parameter passphrases: are all tried on every layer.
    public init(_ passphrases: [NamedSecret] = []) { self.passphrases = passphrases }

    /// The passphrase in a file; one newline at its end is not part of it.
    /// - Throws: ``OpeningError`` when it cannot be read.
    public init(passphraseFile path: String) throws(OpeningError) {
        let name = "the passphrase file \(path)"
        let found: Secret?
        do {
            let file = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
            defer { try? file.close() }
            found = try Secret.read(from: file)
        } catch {
            throw OpeningError(.cannotOpen, "cannot read \(name): \(error); check the name")
        }
        guard let found else {
            throw OpeningError(
                .wrongSecret, "\(name) holds more than \(Secret.maximumCount) bytes; is it the right file?")
        }
        self.init([NamedSecret(name: name, secret: found.droppingTrailingNewline(), isMissing: found.count == 0)])
    }

    /// See ``SecretProvider/names``.
    public var names: [String] { passphrases.map(\.name) }

    /// See ``SecretProvider/has(_:)``.
    public func has(_ use: SecretUse) -> Bool { use == .passphrase && !passphrases.isEmpty }

    /// See ``SecretProvider/secrets(for:)``.
    public func secrets(for use: SecretUse) throws(OpeningError) -> [NamedSecret] {
        use == .passphrase ? passphrases : []
    }

    /// See ``SecretProvider/ask(for:)``.
    public func ask(for name: String) throws(OpeningError) -> NamedSecret {
        throw OpeningError(.wrongSecret, "\(name) is encrypted, and no passphrase is given")
    }
}
