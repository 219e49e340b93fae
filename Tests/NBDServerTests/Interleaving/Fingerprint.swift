// SPDX-License-Identifier: Apache-2.0

/// Tells histories and states apart.
struct Fingerprint: Comparable {
    private(set) var value: UInt64 = 0

    mutating func add(_ more: UInt64) {
        // The finalizer of SplitMix64.
        var mixed = value &+ more &+ 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        value = mixed ^ (mixed >> 31)
    }

    mutating func add(_ more: Fingerprint) { add(more.value) }

    static func < (one: Fingerprint, two: Fingerprint) -> Bool { one.value < two.value }
}
