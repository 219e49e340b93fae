// SPDX-License-Identifier: Apache-2.0

import Crypto
import DiskStack

/// What `nbdecrypt info` says of what is strong and what is weak about a LUKS container.
struct LUKSVerdictReport: Encodable {
    struct Weakness: Encodable {
        let what: String
        /// What to type; nil when nothing helps.
        let command: String?
    }

    let strong: [String]
    let weak: [Weakness]

    /// - Parameter path: the image as a person typed it, for commands.
    init(_ container: LUKSContainer, path: String) {
        let verdict = LUKSVerdict(container)
        let commands = LUKSCommands(container, path: path)
        strong = verdict.strong.map(Self.words)
        weak = verdict.weak.map { finding in
            Weakness(what: Self.words(finding.weakness), command: finding.improvement.map { commands.command(for: $0) })
        }
    }

    /// Each once.
    var commands: [String] {
        weak.compactMap(\.command).reduce(into: []) { all, command in
            if !all.contains(command) { all.append(command) }
        }
    }

    private static func words(_ strength: LUKSStrength) -> String {
        switch strength {
        case .version2: "LUKS2: two copies of the header, with checksums"
        case .randomKey(let program, let keyslot):
            "keyslot \(keyslot): a random key, which \(program) keeps, needs no costly derivation"
        case .iterations(let iterations, let hash, let keyslot):
            "keyslot \(keyslot): \(iterations) iterations of PBKDF2 with \(hash)"
        case .memory(let memory, let time, let lanes, let keyslot):
            "keyslot \(keyslot): argon2 with \(memory) KiB of memory, time \(time), \(lanes) threads"
        case .cipher(let encryption): "\(encryption): a sound choice for disks"
        }
    }

    private static func words(_ weakness: LUKSWeakness) -> String {
        switch weakness {
        case .plaintext(let part): part.description
        case .version1(let conversion):
            "LUKS1: no argon2, and one copy of the header without a checksum\(words(conversion))"
        case .damagedCopy: "one copy of the header is damaged"
        case .unfinishedReencryption(let hasChangedData):
            "a reencryption has begun and not ended\(hasChangedData ? "" : "; it has changed no data yet")"
        case .noKeyslot: "no keyslot is left: only the volume key opens the data"
        case .fewIterations(let iterations, let hash, let keyslot):
            "keyslot \(keyslot): only \(iterations) iterations of PBKDF2 with \(hash), which graphics cards try fast"
        case .outdatedHash(let hash, let keyslot): "keyslot \(keyslot): \(hash) is outdated"
        case .littleMemory(let memory, let keyslot): "keyslot \(keyslot): argon2 with only \(memory) KiB of memory"
        case .cipher(let weakness, let encryption): "\(encryption): \(words(weakness))"
        case .smallSectors: "sectors of 512 bytes: slower than 4096 on disks and in images with larger sectors"
        }
    }

    private static func words(_ conversion: LUKSWeakness.Conversion) -> String {
        switch conversion {
        case .byRenewal: ""
        case .withoutRoom:
            "; it cannot be converted, because its data begins where the header ends, as QEMU makes it"
        // For LUKS1 the conversion is the first command of the list, and the others need it.
        case .losesQEMU: "; QEMU opens LUKS1 alone, and will not open what cryptsetup convert makes of it"
        }
    }

    private static func words(_ weakness: CipherWeakness) -> String {
        switch weakness {
        case .equalBlocks: "equal blocks of the disk can be seen to be equal"
        case .reusedStream: "overwritten sectors give away the difference of old and new contents"
        case .predictableVectors: "predictable vectors let an attacker mark files and find them (watermarking)"
        case .malleable: "with CBC an attacker can change chosen bits of a sector"
        case .keyOnDisk: "a disk that holds its own key gives it away; XTS came in its place"
        case .repeatedVectors: "vectors repeat every 2 TiB"
        case .smallBlocks: "blocks of 64 bits collide after some GiB"
        }
    }
}
