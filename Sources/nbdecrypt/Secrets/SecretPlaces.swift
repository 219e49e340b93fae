// SPDX-License-Identifier: Apache-2.0

/// Where all secrets for an image are.
struct SecretPlaces {
    /// In the order in which they are tried.
    var passphrases: [SecretSource] = []
    /// Of one layer of a chain each.
    var pinned: [(layer: Int, source: SecretSource)] = []
    /// The 16 bytes of an AES image.
    var aesKey: SecretSource?
    /// For LUKS, in place of any keyslot.
    var volumeKeys: [SecretSource] = []

    /// All of them.
    var all: [SecretSource] { passphrases + pinned.map(\.source) + [aesKey].compactMap { $0 } + volumeKeys }

    var isEmpty: Bool { all.isEmpty }
}
