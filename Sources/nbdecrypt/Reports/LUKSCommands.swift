// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import FoundationEssentials

/// The commands that improve a LUKS container.
struct LUKSCommands {
    /// The file with the header.
    private let header: String
    /// The container with its data, as cryptsetup takes it.
    private let volume: String
    /// What cryptsetup wants for a file, of which it cannot tell whether somebody uses it.
    private let offline: String
    /// What `serve` needs to find the container and to open it.
    private let served: String

    /// - Parameter path: the image as a person typed it.
    init(_ container: LUKSContainer, path: String) {
        let image = ShellText.fileArgument(path)
        let found: String
        switch container.place {
        case _ where !container.isHeaderInFile:
            header = image
            volume = image
            offline = ""
            found = image + container.remedies.arguments
        case "detached header":
            header = ShellText.fileArgument(container.headerName ?? "HEADER")
            volume = "--header \(header) \(container.isDataInFile ? image : "DEVICE")"
            offline = container.isDataInFile ? Self.offline(path) : ""
            found = image + container.remedies.arguments
        case "header alone":
            header = image
            volume = "--header \(header) DEVICE"
            offline = ""
            found = "DEVICE --header \(header)"
        default:
            header = image
            volume = image
            offline = Self.offline(path)
            found = image + container.choices.arguments
        }
        let allowed = Set(LUKSPlaintext.all(in: container.volume).map { RemedyWording.words($0.remedy) }).sorted()
        served = allowed.map { "\($0) " }.joined() + found
    }

    /// What to type.
    func command(for improvement: LUKSImprovement) -> String {
        switch improvement {
        case .renewal:
            "nbdecrypt migrate \(served) new.qcow2 --to qcow2-luks --iter-time 5000"
        case .repair: "cryptsetup repair \(header)"
        case .resumption: "cryptsetup reencrypt --resume-only \(offline)\(volume)"
        case .conversion: "cryptsetup convert --type luks2 \(header)"
        case .argon2: "cryptsetup luksConvertKey --pbkdf argon2id \(header)"
        case .longerDerivation: "cryptsetup luksChangeKey --iter-time 5000 \(header)"
        case .reencryption: "cryptsetup reencrypt \(offline)--cipher aes-xts-plain64 --key-size 512 \(volume)"
        case .largerSectors: "cryptsetup reencrypt \(offline)--sector-size 4096 \(volume)"
        }
    }

    /// How to get at the passphrase that a token stands for; nil when its type is not known.
    func advice(for token: LUKSToken) -> String? {
        func open(_ place: String) -> String {
            "`cryptsetup open --token-id \(token.number) \(volume) NAME` opens it where \(place) is; then serve /dev/mapper/NAME"
        }
        switch token.type {
        case "clevis":
            let slot = token.keyslots.first.map(String.init) ?? "SLOT"
            let command = ShellText.quoted("clevis luks pass -d \(header) -s \(slot)")
            return "where clevis can get its secret, give --passphrase-command \(command)"
        case "systemd-recovery":
            return "its passphrase is the recovery key that systemd-cryptenroll has shown, with its dashes"
        case "systemd-tpm2": return open("its TPM")
        case "systemd-fido2": return open("its FIDO2 token")
        case "systemd-pkcs11": return open("its smart card")
        case "luks2-keyring": return "its passphrase is a key of the kernel, which goes with --keyring"
        default: return nil
        }
    }

    private static func offline(_ path: String) -> String {
        let type = try? FileManager.default.attributesOfItem(atPath: path)[.type] as? FileAttributeType
        return type == .typeBlockSpecial ? "" : "--force-offline-reencrypt "
    }
}
