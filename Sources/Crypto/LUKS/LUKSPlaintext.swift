// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A part of a volume that no cipher protects: bytes that would pass for a decrypted disk without any secret, or a volume
/// key that everybody can read.
///
/// The only place that knows what counts as that: whoever serves, audits or describes a volume asks here, and whoever
/// serves asks before anything else. cryptsetup opens no volume with a linear segment, and since 2.8.1 no keyslot with the
/// cipher "null".
public struct LUKSPlaintext: Sendable, Equatable, CustomStringConvertible {
    /// What is in the clear.
    public let part: Part

    /// A part of a volume; encryptions are those of the header.
    public enum Part: Sendable, Equatable {
        /// The segment is said to be the disk itself (LUKS2 type "linear").
        case linearSegment(Int)
        /// The cipher of the segment is the null cipher.
        case nullSegment(Int, encryption: String)
        /// The cipher of the keyslot is the null cipher, and it holds the key of a segment.
        case nullKeyslot(Int, encryption: String)
    }

    /// What the caller wants to be served though it is in the clear.
    public struct Permissions: OptionSet, Sendable {
        /// A bit for each.
        public let rawValue: UInt8

        /// Those of these bits.
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Segments and keyslots of the null cipher.
        public static let nullCipher = Permissions(rawValue: 1)
        /// Segments of type "linear".
        public static let linearSegments = Permissions(rawValue: 2)
    }

    /// Everything of the disk of `volume` that is in the clear: segments first, by rising number.
    ///
    /// What a reencryption keeps of segments is no part of the disk.
    public static func all(in volume: LUKSVolume) -> [LUKSPlaintext] {
        let keyHolders = Set(volume.digests.filter { !$0.segments.isEmpty }.flatMap(\.keyslots))
        return volume.disk.compactMap(LUKSPlaintext.init)
            + volume.keyslots.filter { keyHolders.contains($0.number) }.compactMap(LUKSPlaintext.init)
    }

    /// Refuses a volume of which anything is in the clear that is not allowed by name.
    /// - Throws: ``FormatError`` with code `unsupported`: what, why, and what allows it.
    public static func check(_ volume: LUKSVolume, allowing permissions: Permissions) throws(FormatError) {
        guard let found = all(in: volume).first(where: { !permissions.contains($0.permission) }) else { return }
        throw .unsupported(found.refusal)
    }

    /// Is this the name of a cipher that changes nothing? Also of forms that no library here takes.
    ///
    /// The vector "null" is another thing: "aes-cbc-null" is a cipher.
    public static func isNull(_ encryption: String) -> Bool {
        let name = encryption.lowercased()
        return name.contains("cipher_null") || name == "null" || name.hasPrefix("null-") || name.hasPrefix("null:")
    }

    /// Nil when the segment is encrypted, or of a type that is not known.
    public init?(_ segment: LUKSSegment) {
        switch segment.kind {
        case .linear: part = .linearSegment(segment.number)
        case .crypt(let encryption, _, _), .integrity(let encryption, _, _):
            guard Self.isNull(encryption) else { return nil }
            part = .nullSegment(segment.number, encryption: encryption)
        case .other: return nil
        }
    }

    /// Nil when the key material is encrypted.
    public init?(_ keyslot: LUKSKeyslot) {
        guard Self.isNull(keyslot.encryption) else { return nil }
        part = .nullKeyslot(keyslot.number, encryption: keyslot.encryption)
    }

    /// What allows it.
    public var permission: Permissions {
        switch part {
        case .linearSegment: .linearSegments
        case .nullSegment, .nullKeyslot: .nullCipher
        }
    }

    /// What is set to allow it.
    public var remedy: Remedy {
        switch part {
        case .linearSegment: .allowLinearSegments
        case .nullSegment, .nullKeyslot: .allowNullCipher
        }
    }

    /// E.g. "segment 0 is linear: its data is not encrypted".
    public var description: String {
        switch part {
        case .linearSegment(let number): "segment \(number) is linear: its data is not encrypted"
        case .nullSegment(let number, let encryption):
            "segment \(number) has the cipher \(ShownText.printable(encryption)): its data is not encrypted"
        case .nullKeyslot(let number, let encryption):
            "keyslot \(number) has the cipher \(ShownText.printable(encryption)): its key material is not encrypted, and "
                + "anybody can read and replace the volume key"
        }
    }

    /// Why it is not used, and what to do if it is to be.
    var refusal: Sentence {
        "\(self); anybody could have changed the header to say so; if that is what you expect, add \(remedy: remedy)"
    }
}
