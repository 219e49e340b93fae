// SPDX-License-Identifier: Apache-2.0

/// How much a key derivation may cost: an image says how much it wants, and may be hostile.
///
/// The defaults are above anything that cryptsetup chooses by itself.
public struct KeyDerivationLimits: Sendable {
    /// Iterations of PBKDF2 (`--max-kdf-iterations`).
    public var iterations: UInt32 = 1 << 28
    /// Memory of argon2, in bytes (`--max-kdf-memory`).
    public var memory: UInt64 = 4 << 30
    /// Memory of argon2 in bytes × passes over it (`--max-kdf-work`).
    public var argonWork: UInt64 = 256 << 30
    /// What all derivations for one volume may take together, in seconds by ``KeyDerivation/cost(count:)``
    /// (`--max-kdf-seconds`): 32 keyslots that take four seconds each, with five secrets and some more.
    public var seconds: UInt64 = 900
    /// Lanes of argon2; each pass starts four threads for each. cryptsetup uses 4 at most.
    static let lanes: UInt32 = 256

    /// The defaults.
    public init() {}
}
