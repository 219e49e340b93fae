// SPDX-License-Identifier: Apache-2.0

import DiskStack

/// Where all secrets for an image are.
struct SecretPlaces {
    /// In the order in which they are tried.
    var passphrases: [SecretSource] = []
    /// Of one layer of a chain each, or of the file of an overlay.
    var pinned: [(use: SecretUse, source: SecretSource)] = []
    /// The 16 bytes of an AES image.
    var aesKey: SecretSource?
    /// For LUKS, in place of any keyslot.
    var volumeKeys: [SecretSource] = []

    /// None.
    init() {}

    /// That of an image which has one.
    init(_ source: SecretSource) {
        add(source)
    }

    /// One that is for all layers.
    mutating func add(_ source: SecretSource) {
        switch source.role {
        case .passphrase: passphrases.append(source)
        case .aesKey: aesKey = source
        case .volumeKey: volumeKeys.append(source)
        }
    }

    /// All of them.
    var all: [SecretSource] { passphrases + pinned.map(\.source) + [aesKey].compactMap { $0 } + volumeKeys }

    /// Those that may open something in the image.
    var ofImage: [SecretSource] {
        var places = self
        places.pinned.removeAll { $0.use == .passphraseOfOverlay }
        return places.all
    }

    /// The layers that have secrets of their own, by rising number.
    var pinnedLayers: [Int] {
        let layers = pinned.compactMap { pin in if case .passphraseOfLayer(let number) = pin.use { number } else { nil }
        }
        return Set(layers).sorted()
    }

    /// For commands that have no overlays.
    static let overlayRefusal =
        "--secret overlay= is for --overlay-file of serve; of this command, leave it out or give it without overlay=."

    /// Is there a secret for the file of an overlay?
    var hasOverlaySecret: Bool { pinned.contains { $0.use == .passphraseOfOverlay } }

    var isEmpty: Bool { all.isEmpty }
}
