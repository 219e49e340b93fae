// SPDX-License-Identifier: Apache-2.0

import Crypto

/// What is strong and what is weak about a LUKS container, for its owner, with the commands that improve it.
struct LUKSVerdict: Encodable {
    struct Weakness: Encodable {
        let what: String
        /// What to type; nil when nothing helps.
        let command: String?
    }

    private(set) var strong: [String] = []
    private(set) var weak: [Weakness] = []

    /// - Parameters:
    ///   - isInsideImage: cryptsetup cannot be used on it directly.
    ///   - path: as a person typed it.
    init(_ volume: LUKSVolume, isInsideImage: Bool, path: String) {
        let commands = Commands(path: path, isInsideImage: isInsideImage)
        judgeHeader(volume, commands)
        for keyslot in volume.keyslots { judge(keyslot, volume, commands) }
        if volume.keyslots.isEmpty {
            weak.append(Weakness(what: "no keyslot is left: only the volume key opens the data", command: nil))
        }
        for segment in volume.segments { judge(segment, volume, commands) }
    }

    private mutating func judgeHeader(_ volume: LUKSVolume, _ commands: Commands) {
        if volume.version == 2 {
            strong.append("LUKS2: two copies of the header, with checksums")
        } else {
            weak.append(
                Weakness(
                    what: "LUKS1: no argon2, and one copy of the header without a checksum", command: commands.toLUKS2))
        }
        if !volume.warnings.isEmpty {
            weak.append(Weakness(what: "one copy of the header is damaged", command: commands.repair))
        }
    }

    /// Iterations of PBKDF2 below which trying passphrases is cheap: the recommendations of OWASP for each hash, 2023.
    private static func enoughIterations(_ hash: String) -> UInt32 {
        switch hash {
        case "sha1", "ripemd160": 1_300_000
        case "sha512", "whirlpool", "sha3-512", "blake2b-512", "stribog512": 210_000
        default: 600_000
        }
    }

    private mutating func judge(_ keyslot: LUKSKeyslot, _ volume: LUKSVolume, _ commands: Commands) {
        let name = "keyslot \(keyslot.number)"
        switch keyslot.derivation.function {
        case .pbkdf2(let hash, let iterations):
            if iterations < Self.enoughIterations(hash) {
                weak.append(
                    Weakness(
                        what:
                            "\(name): only \(iterations) iterations of PBKDF2 with \(hash), which graphics cards try fast",
                        command: commands.convertKey))
            } else {
                strong.append("\(name): \(iterations) iterations of PBKDF2 with \(hash)")
            }
            if ["sha1", "md5"].contains(hash) {
                weak.append(Weakness(what: "\(name): \(hash) is outdated", command: commands.convertKey))
            }
        case .argon2i(let time, let memory, let lanes), .argon2id(let time, let memory, let lanes):
            if memory < 64 << 10 {
                weak.append(
                    Weakness(
                        what: "\(name): argon2 with only \(memory) KiB of memory", command: commands.convertKey))
            } else {
                strong.append("\(name): argon2 with \(memory) KiB of memory, time \(time), \(lanes) threads")
            }
        }
        if (try? CipherSpec(keyslot.encryption))?.isNull ?? false {
            weak.append(
                Weakness(
                    what: "\(name): its key material is not encrypted: everybody can read the volume key",
                    command: commands.reencrypt))
        }
    }

    private mutating func judge(_ segment: LUKSSegment, _ volume: LUKSVolume, _ commands: Commands) {
        guard case .crypt(let encryption, let sectorSize, _) = segment.kind else {
            if segment.kind == .linear {
                weak.append(
                    Weakness(what: "segment \(segment.number) is not encrypted (linear)", command: commands.reencrypt))
            }
            return
        }
        let parts = encryption.split(separator: "-").map(String.init)
        let before = weak.count
        if encryption.hasPrefix("cipher_null") || encryption.hasPrefix("null") {
            weak.append(Weakness(what: "\(encryption): the data is not encrypted at all", command: commands.reencrypt))
        } else if parts.contains(where: { $0 == "ecb" }) {
            weak.append(
                Weakness(
                    what: "\(encryption): equal blocks of the disk can be seen to be equal", command: commands.reencrypt
                ))
        } else if parts.contains("ctr") {
            weak.append(
                Weakness(
                    what: "\(encryption): overwritten sectors give away the difference of old and new contents",
                    command: commands.reencrypt))
        } else if parts.contains("cbc"), !encryption.contains("essiv"), !encryption.contains("eboiv") {
            weak.append(
                Weakness(
                    what: "\(encryption): predictable vectors let an attacker mark files and find them (watermarking)",
                    command: commands.reencrypt))
        } else if parts.contains("cbc") {
            weak.append(
                Weakness(
                    what: "\(encryption): with CBC an attacker can change chosen bits of a sector",
                    command: commands.reencrypt))
        }
        if parts.last == "plain" {
            weak.append(
                Weakness(what: "\(encryption): vectors repeat every 2 TiB", command: commands.reencrypt))
        }
        if ["cast5", "blowfish", "des3_ede"].contains(parts.first) {
            weak.append(
                Weakness(what: "\(encryption): blocks of 64 bits collide after some GiB", command: commands.reencrypt))
        }
        if weak.count == before { strong.append("\(encryption): a sound choice for disks") }
        if sectorSize == 512, segment.offset % 4096 == 0, volume.version == 2 {
            weak.append(
                Weakness(
                    what: "sectors of 512 bytes: slower than 4096 on disks and in images with larger sectors",
                    command: commands.largerSectors))
        }
    }

    /// Each once.
    var commands: [String] {
        weak.compactMap(\.command).reduce(into: []) { all, command in
            if !all.contains(command) { all.append(command) }
        }
    }

    /// The commands for one container.
    private struct Commands {
        let convertKey: String
        let reencrypt: String
        let toLUKS2: String
        let repair: String
        let largerSectors: String

        init(path: String, isInsideImage: Bool) {
            let file = Instructions.fileArgument(path)
            guard !isInsideImage else {
                // cryptsetup does not see into images: a new image is the way.
                let renew =
                    "nbdecrypt serve \(file) --run 'qemu-img convert -p -f raw -O qcow2 "
                    + "--object secret,id=new,file=new-passphrase -o encrypt.format=luks,encrypt.key-secret=new,"
                    + "encrypt.iter-time=5000 \"$uri\" new.qcow2'"
                (convertKey, reencrypt, toLUKS2, repair, largerSectors) = (renew, renew, renew, renew, renew)
                return
            }
            // For LUKS1 it is the first of the list, and the others need it.
            toLUKS2 = "cryptsetup convert --type luks2 \(file)"
            convertKey = "cryptsetup luksConvertKey --pbkdf argon2id \(file)"
            reencrypt = "cryptsetup reencrypt --cipher aes-xts-plain64 --key-size 512 \(file)"
            repair = "cryptsetup repair \(file)"
            largerSectors = "cryptsetup reencrypt --sector-size 4096 \(file)"
        }
    }
}
