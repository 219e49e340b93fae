// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// What a LUKS header says, of either version: which keyslots hold the volume key, which digests prove it, and which
/// segments of the data it decrypts.
///
/// ``LUKS1Header`` and ``LUKS2Header`` parse into it; everything behind them knows one model. Its values are checked
/// against each other and against the file, but may ask for what this program does not do: see ``LUKSSupport``.
/// Sources: LUKS1 On-Disk Format Specification 1.2.3; LUKS2 On-Disk Format Specification 1.1.1.
public struct LUKSVolume: Sendable {
    /// 1 or 2.
    public let version: Int
    /// As text, as the header has it.
    public let uuid: String
    /// Empty when there is none; LUKS1 has none.
    public let label: String
    /// Empty when there is none; LUKS1 has none.
    public let subsystem: String
    /// By rising number. LUKS1: the active ones.
    public let keyslots: [LUKSKeyslot]
    /// Keyslots that cannot be used here, e.g. that of a reencryption, or of a later version; by rising number.
    public let otherKeyslots: [LUKSOtherKeyslot]
    /// By rising number.
    public let digests: [LUKSDigest]
    /// By rising number, which is the order of their data. LUKS1 has one.
    public let segments: [LUKSSegment]
    /// By rising number.
    public let tokens: [LUKSToken]
    /// What a program must understand to touch the volume, e.g. "online-reencrypt-v2".
    public let requirements: [String]
    /// Wishes for activation, e.g. "allow-discards".
    public let flags: [String]
    /// Bytes from the start of the header that belong to it: both copies and the keyslot area; LUKS1: up to the end of
    /// the last keyslot's area.
    public let headerSize: UInt64
    /// Bytes from the start of the header that are not for keyslots: of LUKS2, both copies.
    public var fixedSize: UInt64 { copy.map { $0.size * 2 } ?? UInt64(LUKS1Header.length) }
    /// Which copy of a LUKS2 header this is; nil for LUKS1.
    public let copy: HeaderCopy?
    /// Sentences for the owner: a damaged copy, what was found in it, and what mends it.
    public internal(set) var warnings: [String]

    /// One of the two copies of a LUKS2 header.
    public struct HeaderCopy: Sendable {
        /// The one at the start, or the one behind it.
        public let isPrimary: Bool
        /// Rises with every change of the header.
        public let sequenceID: UInt64
        /// The size in bytes of one copy, its JSON area included.
        public let size: UInt64
    }
}

extension LUKSVolume {
    /// Can `cryptsetup convert` make LUKS2 of it in place? Its header begins the keyslots 28 KiB later than LUKS1, so that as much
    /// must be free before the data. cryptsetup leaves this much, QEMU nothing (cryptsetup 2.8.8, QEMU 11.1.3).
    public var hasRoomForLUKS2: Bool {
        guard version == 1, let data = segments.first?.offset, data > 0 else { return true }
        let end = (headerSize + 4095) / 4096 * 4096
        return data >= end && data - end >= 28 << 10
    }
}

/// A place that holds the volume key, encrypted with a key that is derived from a secret.
public struct LUKSKeyslot: Sendable {
    /// 0…7 in LUKS1, 0…31 in LUKS2.
    public let number: Int
    /// The length of the key that it holds, in bytes.
    public let keySize: Int
    /// Whether it is tried.
    public let priority: Priority
    /// The cost of trying a secret, and the salt.
    public let derivation: KeyDerivation
    /// Where the key material lies, in bytes from the start of the header; a multiple of 512.
    public let area: ByteRange
    /// How the key material is encrypted, e.g. "aes-xts-plain64"; LUKS1: as the data.
    public let encryption: String
    /// The length of the derived key, in bytes.
    public let encryptionKeySize: Int
    /// Into how many parts the volume key is split; always 4000.
    public let stripes: Int
    /// The hash that diffuses the parts.
    public let splitHash: String

    /// LUKS2 "priority".
    public enum Priority: Int, Sendable {
        /// Tried only when it is named.
        case ignore = 0
        case normal = 1
        /// Tried before the others.
        case prefer = 2
    }
}

/// A keyslot that no secret opens here: it holds something else than a volume key, or in a way that is not known.
public struct LUKSOtherKeyslot: Sendable {
    /// 0…31.
    public let number: Int
    /// E.g. "reencrypt"; "luks2" when a part of it is not known.
    public let type: String
    /// Why it cannot be used, e.g. "its key derivation "argon2" is not known here".
    public let reason: String
    /// What a reencryption keeps for itself.
    public var isOfReencryption: Bool { type == "reencrypt" }
    /// What a reencryption does: "encrypt", "reencrypt" or "decrypt"; nil for other types.
    public let mode: String?
    /// Where a reencryption goes: "forward" or "backward"; nil for other types.
    public let direction: String?
    /// How a reencryption survives a crash, e.g. "checksum"; nil for other types.
    public let resilience: String?
}

/// The proof of a volume key.
public struct LUKSDigest: Sendable {
    /// 0 in LUKS1, 0…7 in LUKS2.
    public let number: Int
    /// Numbers of the keyslots that hold this key.
    public let keyslots: [Int]
    /// Numbers of the segments that this key decrypts.
    public let segments: [Int]
    /// Always PBKDF2.
    public let derivation: KeyDerivation
    /// What the derivation gives for the right key.
    public let digest: [UInt8]
}

/// A part of the data.
public struct LUKSSegment: Sendable {
    /// 0…31.
    public let number: Int
    /// Where it starts in the data device, in bytes.
    public let offset: UInt64
    /// In bytes; nil: up to the end of the data device ("dynamic").
    public let size: UInt64?
    /// What its bytes are.
    public let kind: Kind
    /// LUKS2 "flags", e.g. "backup-previous" of a reencryption.
    public let flags: [String]

    /// What the bytes of a segment are.
    public enum Kind: Sendable, Equatable {
        /// The disk itself.
        case linear
        /// Encrypted sectors of `sectorSize` bytes; `ivTweak` (in units of 512 bytes) is added to the number of each.
        case crypt(encryption: String, sectorSize: Int, ivTweak: UInt64)
        /// As `crypt`, with an authentication tag for each sector, as dm-integrity stores it.
        case integrity(encryption: String, integrity: String, sectorSize: Int)
        /// Another type, by name: e.g. "hw-opal".
        case other(String)
    }
}

/// A way to get at a secret that another program knows.
public struct LUKSToken: Sendable {
    /// 0…31.
    public let number: Int
    /// E.g. "luks2-keyring", "systemd-tpm2", "clevis".
    public let type: String
    /// Numbers of the keyslots that it opens.
    public let keyslots: [Int]
}
