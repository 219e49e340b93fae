// SPDX-License-Identifier: Apache-2.0

import Crypto

/// What is strong and what is weak about a LUKS container, for its owner, and what improves it.
package struct LUKSVerdict {
    /// A weakness.
    package struct Finding: Equatable {
        package let weakness: LUKSWeakness
        /// Nil when nothing helps.
        package let improvement: LUKSImprovement?
    }

    package private(set) var strong: [LUKSStrength] = []
    package private(set) var weak: [Finding] = []

    /// Judges a container where it is.
    package init(_ container: LUKSContainer) {
        self.init(container.volume, dataSize: container.dataSize, isInImage: container.isInImage)
    }

    /// - Parameters:
    ///   - dataSize: of the device with the segments, in bytes, where it is known.
    ///   - isInImage: cryptsetup does not see the container.
    init(_ volume: LUKSVolume, dataSize: UInt64?, isInImage: Bool) {
        let plaintext = LUKSPlaintext.all(in: volume)
        let improvements = LUKSImprovements(volume, plaintext, isInImage: isInImage)
        for part in plaintext { note(.plaintext(part), improvements.plaintext) }
        judgeHeader(volume, improvements)
        for keyslot in volume.keyslots { judge(keyslot, volume, improvements) }
        if volume.keyslots.isEmpty { note(.noKeyslot, nil) }
        for segment in volume.disk { judge(segment, volume, improvements, dataSize) }
    }

    private mutating func note(_ weakness: LUKSWeakness, _ improvement: LUKSImprovement?) {
        weak.append(Finding(weakness: weakness, improvement: improvement))
    }

    private mutating func judgeHeader(_ volume: LUKSVolume, _ improvements: LUKSImprovements) {
        if volume.version == 2 {
            strong.append(.version2)
        } else {
            note(.version1(improvements.conversion), improvements.version)
        }
        if !volume.warnings.isEmpty { note(.damagedCopy, improvements.copies) }
        if volume.isInReencryption {
            note(
                .unfinishedReencryption(hasChangedData: !volume.isOnlyInitialised),
                volume.isInOnlineReencryption ? improvements.reencryption : nil)
        }
    }

    /// Iterations of PBKDF2 below which trying passphrases is cheap: the recommendations of OWASP for each hash, 2023.
    private static func enoughIterations(_ hash: String) -> UInt32 {
        // By one name of several, in whatever letters the header has it.
        switch normal(hash) {
        case "sha1", "ripemd160", "rmd160": 1_300_000
        case "sha512", "whirlpool", "wp512", "sha3-512", "blake2b-512", "stribog512", "streebog512": 210_000
        default: 600_000
        }
    }

    /// Tokens of programs that make a key of 256 random bits, of which no guess gets anywhere.
    private static let typesWithRandomKeys: Set = [
        "systemd-recovery", "systemd-tpm2", "systemd-fido2", "systemd-pkcs11", "clevis",
    ]

    private static func normal(_ hash: String) -> String { (try? HashAlgorithm(hash))?.description ?? hash }

    private mutating func judge(_ keyslot: LUKSKeyslot, _ volume: LUKSVolume, _ improvements: LUKSImprovements) {
        let number = keyslot.number
        let program = volume.tokens.first {
            Self.typesWithRandomKeys.contains($0.type) && $0.keyslots.contains(number)
        }
        if let program {
            // It needs no costly derivation.
            strong.append(.randomKey(program: program.type, keyslot: number))
            return
        }
        switch keyslot.derivation.function {
        case .pbkdf2(let hash, let iterations):
            if iterations < Self.enoughIterations(hash) {
                note(.fewIterations(iterations, hash: hash, keyslot: number), improvements.derivation)
            } else {
                strong.append(.iterations(iterations, hash: hash, keyslot: number))
            }
            if ["sha1", "md5"].contains(Self.normal(hash)) {
                note(.outdatedHash(hash, keyslot: number), improvements.derivation)
            }
        case .argon2i(let time, let memory, let lanes), .argon2id(let time, let memory, let lanes):
            if memory < 64 << 10 {
                note(.littleMemory(memory, keyslot: number), improvements.derivation)
            } else {
                strong.append(.memory(memory, time: time, lanes: lanes, keyslot: number))
            }
        }
    }

    private mutating func judge(
        _ segment: LUKSSegment, _ volume: LUKSVolume, _ improvements: LUKSImprovements, _ dataSize: UInt64?
    ) {
        guard case .crypt(let encryption, let sectorSize, _) = segment.kind, LUKSPlaintext(segment) == nil else {
            return
        }
        let weaknesses = CipherWeakness.all(of: encryption)
        for weakness in weaknesses { note(.cipher(weakness, encryption: encryption), improvements.cipher) }
        if weaknesses.isEmpty, !strong.contains(.cipher(encryption)) { strong.append(.cipher(encryption)) }
        // cryptsetup wants whole sectors of the new size.
        let length = segment.size ?? dataSize.map { $0 - min($0, segment.offset) } ?? 0
        if sectorSize == 512, segment.offset % 4096 == 0, length % 4096 == 0, volume.version == 2 {
            note(.smallSectors, improvements.sectors)
        }
    }
}
