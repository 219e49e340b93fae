// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import FoundationEssentials

/// What is strong and what is weak about a LUKS container, for its owner, with the commands that improve it.
struct LUKSVerdict: Encodable {
    struct Weakness: Encodable {
        let what: String
        /// What to type; nil when nothing helps.
        let command: String?
    }

    private(set) var strong: [String] = []
    private(set) var weak: [Weakness] = []

    /// Judges `volume`, whose commands are for `place`.
    ///
    /// - Parameter dataSize: of the device with the segments, in bytes, where it is known.
    init(_ volume: LUKSVolume, _ place: Place, dataSize: UInt64?) {
        let plaintext = LUKSPlaintext.all(in: volume)
        let commands = Commands(place, plaintext, volume)
        weak = plaintext.map { Weakness(what: $0.description, command: commands.renew) }
        judgeHeader(volume, commands)
        for keyslot in volume.keyslots { judge(keyslot, volume, commands) }
        if volume.keyslots.isEmpty {
            weak.append(Weakness(what: "no keyslot is left: only the volume key opens the data", command: nil))
        }
        for segment in volume.disk { judge(segment, volume, commands, dataSize) }
    }

    private mutating func judgeHeader(_ volume: LUKSVolume, _ commands: Commands) {
        if volume.version == 2 {
            strong.append("LUKS2: two copies of the header, with checksums")
        } else {
            weak.append(
                Weakness(
                    what: "LUKS1: no argon2, and one copy of the header without a checksum\(commands.noteOnLUKS2)",
                    command: commands.toLUKS2))
        }
        if !volume.warnings.isEmpty {
            weak.append(Weakness(what: "one copy of the header is damaged", command: commands.repair))
        }
        if volume.isInReencryption {
            weak.append(
                Weakness(
                    what: "a reencryption has begun and not ended"
                        + (volume.isOnlyInitialised ? "; it has changed no data yet" : ""),
                    command: volume.isInOnlineReencryption ? commands.resume : nil))
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

    private mutating func judge(_ keyslot: LUKSKeyslot, _ volume: LUKSVolume, _ commands: Commands) {
        let name = "keyslot \(keyslot.number)"
        let program = volume.tokens.first {
            Self.typesWithRandomKeys.contains($0.type) && $0.keyslots.contains(keyslot.number)
        }
        if let program {
            strong.append("\(name): a random key, which \(program.type) keeps, needs no costly derivation")
            return
        }
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
            if ["sha1", "md5"].contains(Self.normal(hash)) {
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
    }

    private mutating func judge(
        _ segment: LUKSSegment, _ volume: LUKSVolume, _ commands: Commands, _ dataSize: UInt64?
    ) {
        guard case .crypt(let encryption, let sectorSize, _) = segment.kind, LUKSPlaintext(segment) == nil else {
            return
        }
        let parts = encryption.split(separator: "-").map(String.init)
        let before = weak.count
        if parts.contains(where: { $0 == "ecb" }) {
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
        if parts.contains("lrw") {
            weak.append(
                Weakness(
                    what: "\(encryption): a disk that holds its own key gives it away; XTS came in its place",
                    command: commands.reencrypt))
        }
        // What follows a colon is an option, which this vector does not use.
        if parts.last?.prefix(while: { $0 != ":" }) == "plain" {
            weak.append(
                Weakness(what: "\(encryption): vectors repeat every 2 TiB", command: commands.reencrypt))
        }
        if ["cast5", "blowfish", "des3_ede"].contains(parts.first) {
            weak.append(
                Weakness(what: "\(encryption): blocks of 64 bits collide after some GiB", command: commands.reencrypt))
        }
        let sound = "\(encryption): a sound choice for disks"
        if weak.count == before, !strong.contains(sound) { strong.append(sound) }
        // cryptsetup wants whole sectors of the new size.
        let length = segment.size ?? dataSize.map { $0 - min($0, segment.offset) } ?? 0
        if sectorSize == 512, segment.offset % 4096 == 0, length % 4096 == 0, volume.version == 2 {
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
}

extension LUKSVerdict {
    /// Where a container is, for the commands that change it.
    enum Place {
        /// In a file or device that cryptsetup takes.
        case file(String)
        /// The header in a file of its own; the data is in the other file or device, if that is known, and cryptsetup takes it.
        /// What `serve` needs to find both.
        case detached(header: String, data: String?, served: String)
        /// In an image that cryptsetup does not see into, or in a part of one; what `serve` needs to find it.
        case image(String, options: String)

        /// - Parameter path: the image as a person typed it.
        init(_ container: LUKSContainer, path: String) {
            switch container.place {
            case _ where !container.isHeaderInFile: self = .image(path, options: container.options)
            case "detached header":
                let header = container.headerName ?? "HEADER"
                self = .detached(
                    header: header, data: container.isDataInFile ? path : nil,
                    served: ShellText.fileArgument(path) + container.options)
            case "header alone":
                self = .detached(
                    header: path, data: nil, served: "DEVICE --header \(ShellText.fileArgument(path))")
            case "file": self = .file(path)
            default: self = .image(path, options: container.serveOptions)
            }
        }
    }

    /// The commands for one container; nil where none helps.
    fileprivate struct Commands {
        private(set) var convertKey: String?
        private(set) var reencrypt: String?
        private(set) var toLUKS2: String?
        private(set) var repair: String?
        private(set) var largerSectors: String?
        private(set) var resume: String?
        /// What to say of ``toLUKS2``.
        private(set) var noteOnLUKS2 = ""
        /// A new image in place of one that is not encrypted, or that cryptsetup does not see into.
        private(set) var renew: String?

        init(_ place: Place, _ plaintext: [LUKSPlaintext], _ container: LUKSVolume) {
            let isInReencryption = container.isInReencryption
            // What the header alone is changed by takes the file with the header; the rest needs the data, too.
            let header: String
            let volume: String
            let served: String
            var offline = ""
            switch place {
            case .file(let path):
                header = ShellText.fileArgument(path)
                volume = header
                served = header
                offline = Self.offline(path)
            case .detached(let path, let data, let found):
                served = found
                offline = data.map(Self.offline) ?? ""
                header = ShellText.fileArgument(path)
                volume = "--header \(header) \(data.map(ShellText.fileArgument) ?? "DEVICE")"
            case .image(let path, let options):
                header = ""
                volume = ShellText.fileArgument(path) + options
                served = volume
            }
            let isInImage = if case .image = place { true } else { false }
            // cryptsetup takes no header that tells of plaintext, but in an encryption that is under way.
            if isInImage || !plaintext.isEmpty && !isInReencryption {
                // What is being reencrypted cannot be read.
                guard !isInReencryption else { return }
                let options = Set(plaintext.map(\.option)).sorted().map { "\($0) " }.joined()
                let renew = Self.renewal("\(options)\(served)")
                self.renew = renew
                (convertKey, reencrypt, toLUKS2, repair, largerSectors) = (renew, renew, renew, renew, renew)
                return
            }
            repair = "cryptsetup repair \(header)"
            guard !isInReencryption else {
                resume = "cryptsetup reencrypt --resume-only \(offline)\(volume)"
                return
            }
            guard container.hasRoomForLUKS2 else {
                noteOnLUKS2 =
                    "; it cannot be converted, because its data begins where the header ends, as QEMU makes it"
                convertKey = "cryptsetup luksChangeKey --iter-time 5000 \(header)"
                reencrypt = Self.renewal(served)
                return
            }
            // For LUKS1 it is the first of the list, and the others need it.
            noteOnLUKS2 = "; QEMU opens LUKS1 alone, and will not open what cryptsetup convert makes of it"
            toLUKS2 = "cryptsetup convert --type luks2 \(header)"
            convertKey = "cryptsetup luksConvertKey --pbkdf argon2id \(header)"
            reencrypt = "cryptsetup reencrypt \(offline)--cipher aes-xts-plain64 --key-size 512 \(volume)"
            largerSectors = "cryptsetup reencrypt \(offline)--sector-size 4096 \(volume)"
        }

        /// Makes a new image of what is served.
        private static func renewal(_ served: String) -> String {
            "nbdecrypt serve \(served) --run 'qemu-img convert -p -f raw -O qcow2 "
                + "--object secret,id=new,file=new-passphrase -o encrypt.format=luks,encrypt.key-secret=new,"
                + "encrypt.iter-time=5000 \"$uri\" new.qcow2'"
        }

        /// What cryptsetup wants for a file, of which it cannot tell whether somebody uses it.
        private static func offline(_ path: String) -> String {
            let type = try? FileManager.default.attributesOfItem(atPath: path)[.type] as? FileAttributeType
            return type == .typeBlockSpecial ? "" : "--force-offline-reencrypt "
        }
    }
}
