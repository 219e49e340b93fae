// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack

/// What `nbdecrypt info` says of a LUKS container.
struct LUKSReport: Encodable {
    struct HeaderCopy: Encodable {
        let name: String
        let sequenceID: UInt64
        /// In bytes.
        let size: UInt64
    }

    struct Keyslot: Encodable {
        let number: Int
        let type: String
        let priority: String
        let keyBits: Int
        let derivation: String
        let encryption: String
        let encryptionKeyBits: Int
        let splitHash: String
        /// In bytes from the start of the header.
        let areaOffset: UInt64
        /// In bytes.
        let areaSize: UInt64
        /// Numbers of the digests that prove what it holds.
        let digests: [Int]
    }

    /// A keyslot that no secret opens.
    struct OtherKeyslot: Encodable {
        let number: Int
        let type: String
        /// Why.
        let reason: String
    }

    struct Digest: Encodable {
        let number: Int
        let derivation: String
        let keyslots: [Int]
        let segments: [Int]
    }

    struct Segment: Encodable {
        let number: Int
        let type: String
        /// In bytes.
        let offset: UInt64
        /// In bytes; nil: dynamic.
        let size: UInt64?
        var encryption: String?
        /// In bytes.
        var sectorSize: Int?
        /// In units of 512 bytes.
        var ivTweak: UInt64?
        var integrity: String?
        let flags: [String]
    }

    struct Token: Encodable {
        let number: Int
        let type: String
        let keyslots: [Int]
        /// How to get at the passphrase; nil when the type is not known.
        let advice: String?
    }

    /// "file", "detached header", "header alone", "qcow2 header" or "guest disk": where the container was found.
    let place: String
    let version: Int
    let uuid: String
    let label: String
    let subsystem: String
    let headerCopy: HeaderCopy?
    /// In bytes, keyslots included.
    let headerSize: UInt64
    let cipher: String
    let keyBits: Int?
    let keyslots: [Keyslot]
    let otherKeyslots: [OtherKeyslot]
    let digests: [Digest]
    let segments: [Segment]
    let tokens: [Token]
    let requirements: [String]
    let flags: [String]
    let warnings: [String]
    /// Where the first byte of data lies; nil inside qcow2, where the clusters are anywhere.
    let payloadOffset: UInt64?
    /// In bytes; nil when it cannot be told, as the reason says.
    let virtualSize: UInt64?
    let virtualSizeReason: String
    /// Where `cryptsetup open` would give another disk.
    let differences: [String]
    let verdict: LUKSVerdictReport
    /// Why `serve` refuses it; nil when it does not.
    let refusal: String?

    /// - Parameters:
    ///   - path: the file as a person typed it, for commands.
    ///   - permissions: what may be in the clear.
    init(_ container: LUKSContainer, path: String, allowing permissions: LUKSPlaintext.Permissions) {
        let (volume, guestSize) = (container.volume, container.guestSize)
        place = container.place
        version = volume.version
        uuid = volume.uuid
        label = volume.label
        subsystem = volume.subsystem
        headerCopy = volume.copy.map {
            HeaderCopy(name: $0.isPrimary ? "primary" : "secondary", sequenceID: $0.sequenceID, size: $0.size)
        }
        headerSize = volume.headerSize
        cipher = volume.disk.map(\.cipherName).reduce(into: [String]()) { all, name in
            if !all.contains(name) { all.append(name) }
        }.joined(separator: ", ")
        keyBits = volume.keyslots.first.map { $0.keySize * 8 }
        keyslots = volume.keyslots.map { slot in
            Keyslot(
                number: slot.number, type: volume.version == 1 ? "luks1" : "luks2", priority: "\(slot.priority)",
                keyBits: slot.keySize * 8, derivation: slot.derivation.description, encryption: slot.encryption,
                encryptionKeyBits: slot.encryptionKeySize * 8, splitHash: slot.splitHash, areaOffset: slot.area.offset,
                areaSize: slot.area.length,
                digests: volume.digests.filter { $0.keyslots.contains(slot.number) }.map(\.number))
        }
        otherKeyslots = volume.otherKeyslots.map { OtherKeyslot(number: $0.number, type: $0.type, reason: $0.reason) }
        digests = volume.digests.map {
            Digest(
                number: $0.number, derivation: $0.derivation.description, keyslots: $0.keyslots, segments: $0.segments)
        }
        segments = volume.segments.map(Segment.init)
        let commands = LUKSCommands(container, path: path)
        tokens = volume.tokens.map {
            Token(number: $0.number, type: $0.type, keyslots: $0.keyslots, advice: commands.advice(for: $0))
        }
        requirements = volume.requirements
        flags = volume.flags
        warnings = volume.warnings
        payloadOffset = guestSize == nil ? volume.segments.first?.offset : nil
        let size = LUKSDiskSize(container)
        (virtualSize, virtualSizeReason) = (size.byteCount, size.reason)
        differences =
            guestSize == nil && (!volume.isInReencryption || volume.isOnlyInitialised)
            ? CryptsetupDifferences.list(volume) : []
        verdict = LUKSVerdictReport(container, path: path)
        do throws(FormatError) {
            _ = try LUKSSegments(volume, allowing: permissions)
            refusal = container.refusal?.worded
        } catch {
            refusal = error.worded
        }
    }
}

extension LUKSReport {
    /// Names and values for people.
    var lines: [(String, String)] {
        var lines: [(String, String)] = [("uuid", uuid)]
        if !label.isEmpty { lines.append(("label", label)) }
        if !subsystem.isEmpty { lines.append(("subsystem", subsystem)) }
        if let keyBits { lines.append(("key size", "\(keyBits) bits")) }
        if let headerCopy {
            lines.append(
                ("header copy", "\(headerCopy.name), sequence id \(headerCopy.sequenceID), \(headerCopy.size) bytes"))
        }
        lines.append(("header size", "\(headerSize) bytes with the keyslots"))
        if let payloadOffset { lines.append(("payload offset", "\(payloadOffset) bytes")) }
        lines.append(("why this size", virtualSizeReason))
        lines += keyslots.map { slot in
            let opensData = digests.contains { slot.digests.contains($0.number) && !$0.segments.isEmpty }
            let unbound =
                slot.digests.isEmpty ? ", proved by no digest" : opensData ? "" : ", unbound: opens no data"
            let priority =
                switch slot.priority {
                case "normal": ""
                case "ignore": ", priority ignore: tried only with --key-slot \(slot.number)"
                default: ", priority \(slot.priority)"
                }
            return (
                "keyslot \(slot.number)",
                "\(slot.keyBits) bits, \(slot.derivation), \(slot.encryption)\(priority)\(unbound)"
            )
        }
        lines += otherKeyslots.map {
            ("keyslot \($0.number)", "type \($0.type), which no passphrase opens: \($0.reason)")
        }
        lines += digests.map { digest in
            (
                "digest \(digest.number)",
                "\(digest.derivation); keyslots \(digest.keyslots), segments \(digest.segments)"
            )
        }
        lines += segments.map { segment in
            let size = segment.size.map { "\($0) bytes" } ?? "up to the end"
            let sector = segment.sectorSize.map { ", sectors of \($0) bytes" } ?? ""
            let tweak = segment.ivTweak.flatMap { $0 == 0 ? nil : ", iv_tweak \($0)" } ?? ""
            let integrity = segment.integrity.map { ", integrity \($0)" } ?? ""
            let flags = segment.flags.isEmpty ? "" : ", flags \(segment.flags.joined(separator: " "))"
            return (
                "segment \(segment.number)",
                "\(segment.encryption ?? segment.type) from byte \(segment.offset), \(size)\(sector)\(tweak)\(integrity)\(flags)"
            )
        }
        lines += tokens.map {
            ("token \($0.number)", "\($0.type), keyslots \($0.keyslots)\($0.advice.map { "; \($0)" } ?? "")")
        }
        if !requirements.isEmpty { lines.append(("requirements", requirements.joined(separator: ", "))) }
        if !flags.isEmpty { lines.append(("flags", flags.joined(separator: ", "))) }
        lines += warnings.map { ("warning", $0) }
        lines += differences.map { ("differs", $0) }
        lines += verdict.strong.map { ("strong", $0) }
        lines += verdict.weak.map { ("weak", $0.what) }
        return lines
    }
}

extension LUKSReport.Segment {
    init(_ segment: LUKSSegment) {
        number = segment.number
        offset = segment.offset
        size = segment.size
        flags = segment.flags
        switch segment.kind {
        case .linear: type = "linear"
        case .crypt(let encryption, let sectorSize, let ivTweak):
            type = "crypt"
            self.encryption = encryption
            self.sectorSize = sectorSize
            self.ivTweak = ivTweak
        case .integrity(let encryption, let integrity, let sectorSize):
            type = "crypt"
            self.encryption = encryption
            self.sectorSize = sectorSize
            self.integrity = integrity
        case .other(let name): type = name
        }
    }
}

extension LUKSSegment {
    /// E.g. "aes-xts-plain64", "linear".
    var cipherName: String {
        switch kind {
        case .linear: "linear"
        case .crypt(let encryption, _, _): encryption
        case .integrity(let encryption, let integrity, _): "\(encryption) with \(integrity)"
        case .other(let name): name
        }
    }
}
