// SPDX-License-Identifier: Apache-2.0

/// What kind of image to make.
struct ImageRecipe: Sendable, CustomStringConvertible {
    var clusterBits = 16
    /// "0.10" or "1.1".
    var compat = "1.1"
    var isEncrypted = false
    /// In bytes.
    var size: Int
    /// Further options of qemu-img create, e.g. "compression_type=zstd".
    var extra: [String] = []

    var clusterSize: Int { 1 << clusterBits }
    var l2Coverage: Int { clusterSize / 8 * clusterSize }

    var description: String {
        let cluster = clusterSize < 1024 ? "\(clusterSize) B" : "\(clusterSize / 1024) KiB"
        return ([cluster, compat, isEncrypted ? "AES" : "plain", "\(size) bytes"] + extra).joined(separator: ", ")
    }

    /// Every cluster size, version and encryption; sizes that are no multiple of the cluster, and seldom one of 4 KiB.
    static let matrix: [ImageRecipe] = (9...21).flatMap { bits in
        ["0.10", "1.1"].flatMap { compat in
            [false, true].map { isEncrypted in
                let cluster = 1 << bits
                // Enough clusters for everything that the maker does, and at least two L2 tables where that is cheap.
                var size = max(2 << 20, 14 * cluster) + cluster / 2 / 512 * 512 + 3 * 512
                if bits == 13 { size += 8 << 20 }
                if bits == 16 { size = 44 << 20 | 0x600 }
                return ImageRecipe(clusterBits: bits, compat: compat, isEncrypted: isEncrypted, size: size)
            }
        }
    }
}
