// SPDX-License-Identifier: Apache-2.0

/// The feature bits of a qcow2 header and their names.
///
/// Source: qcow2 specification, "Header": incompatible_features, compatible_features, autoclear_features.
public struct Qcow2Features: Equatable, Sendable {
    /// Features without which the image must not be opened.
    public let incompatible: UInt64
    /// Features that a reader may ignore.
    public let compatible: UInt64
    /// Features that a writer clears when it does not know them.
    public let autoclear: UInt64

    /// An incompatible feature that this program knows, by its bit.
    public enum Incompatible: UInt64, CaseIterable, Sendable {
        case dirty = 0
        case corrupt = 1
        case externalDataFile = 2
        case compressionType = 3
        case extendedL2 = 4

        /// The name as the specification has it.
        public var name: String {
            switch self {
            case .dirty: "dirty bit"
            case .corrupt: "corrupt bit"
            case .externalDataFile: "external data file"
            case .compressionType: "compression type"
            case .extendedL2: "extended L2 entries"
            }
        }
    }

    /// Which set a bit belongs to, numbered as in the feature name table.
    public enum Set: UInt8, Sendable {
        case incompatible = 0
        case compatible = 1
        case autoclear = 2
    }

    /// Is this incompatible feature in use?
    public func contains(_ feature: Incompatible) -> Bool { incompatible >> feature.rawValue & 1 == 1 }

    /// Numbers of the incompatible bits that this program does not know.
    public var unknownIncompatibleBits: [Int] {
        Self.bits(incompatible).filter { Incompatible(rawValue: UInt64($0)) == nil }
    }

    /// The names of all bits that are set.
    ///
    /// - Parameter table: names that the image itself gives, used for bits that this program does not know.
    public func names(_ table: [Qcow2Extensions.FeatureName]) -> (
        incompatible: [String], compatible: [String], autoclear: [String]
    ) {
        (
            Self.bits(incompatible).map { bit in
                Incompatible(rawValue: UInt64(bit))?.name ?? Self.name(.incompatible, bit, table)
            },
            Self.bits(compatible).map { $0 == 0 ? "lazy refcounts" : Self.name(.compatible, $0, table) },
            Self.bits(autoclear).map { bit in
                switch bit {
                case 0: "bitmaps"
                case 1: "raw external data"
                default: Self.name(.autoclear, bit, table)
                }
            }
        )
    }

    /// The image's own name for a bit, else its number.
    static func name(_ set: Set, _ bit: Int, _ table: [Qcow2Extensions.FeatureName]) -> String {
        table.first { $0.set == set.rawValue && $0.bit == bit }?.name ?? "unknown bit \(bit)"
    }

    private static func bits(_ word: UInt64) -> [Int] { (0..<64).filter { word >> UInt64($0) & 1 == 1 } }
}
