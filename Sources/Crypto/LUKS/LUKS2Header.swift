// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// A LUKS2 header: the better one of its two copies.
///
/// A copy counts when everything in it is right, its JSON included. Of two, the one with the higher sequence id counts:
/// it was written later. Source: LUKS2 On-Disk Format Specification 1.1.1, sections 2.1 and 4.
struct LUKS2Header {
    let volume: LUKSVolume

    /// Reads both copies.
    ///
    /// - Returns: nil when the start is no LUKS2 header, and there is no second copy of one either.
    init?(_ device: any BlockDevice, _ surroundings: LUKSSurroundings) throws(FormatError) {
        let primary = Self.copy(device, at: 0, surroundings)
        let secondary: Copy
        if let size = primary.size {
            secondary = Self.copy(device, at: size, surroundings)
        } else {
            // Nobody says where: it is at one of a few places.
            let candidates = LUKS2BinaryHeader.sizes.filter { LUKS2BinaryHeader.hasSecondary(device, at: $0) }
            let copies = candidates.map { Self.copy(device, at: $0, surroundings) }
            guard let found = copies.first(where: { $0.volume != nil }) ?? copies.first else {
                guard case .fault(let fault, _) = primary, Self.isLUKS(device) || fault.unreadable != nil else {
                    return nil
                }
                throw Self.withoutSecondary(fault, Self.backupAdvice(device, 2 * LUKS2BinaryHeader.sizes[0]))
            }
            secondary = found
        }
        volume = try Self.choose(primary, secondary) {
            Self.backupAdvice(device, 2 * (primary.size ?? secondary.size ?? LUKS2BinaryHeader.sizes[0]))
        }
    }

    /// What was found at the place of a copy.
    private enum Copy {
        case volume(LUKSVolume)
        /// Also the size of the copy, when its binary part is right.
        case fault(LUKSFault, size: UInt64?)

        var volume: LUKSVolume? { if case .volume(let volume) = self { volume } else { nil } }

        var size: UInt64? {
            switch self {
            case .volume(let volume): volume.copy?.size
            case .fault(_, let size): size
            }
        }
    }

    private static func copy(_ device: any BlockDevice, at offset: UInt64, _ surroundings: LUKSSurroundings) -> Copy {
        var size: UInt64?
        do throws(LUKSFault) {
            let binary = try LUKS2BinaryHeader(device, at: offset)
            size = binary.size
            let metadata = try LUKS2Metadata(
                json: binary.json, at: offset + UInt64(LUKS2BinaryHeader.length), surroundings)
            return .volume(LUKSVolume(binary, metadata, isPrimary: offset == 0))
        } catch { return .fault(error, size: size) }
    }

    private static func isLUKS(_ device: any BlockDevice) -> Bool {
        guard case .version = LUKSMagic(device) else { return false }
        return true
    }

    /// - Parameter backup: the advice when no copy can be used.
    private static func choose(
        _ primary: Copy, _ secondary: Copy, _ backup: () -> String
    ) throws(FormatError) -> LUKSVolume {
        switch (primary, secondary) {
        case (.volume(let primary), .volume(let secondary)): return try newer(primary, secondary)
        case (.volume(let volume), .fault(let fault, _)): return volume.adding(warning(fault, "secondary", "primary"))
        case (.fault(let fault, _), .volume(let volume)): return volume.adding(warning(fault, "primary", "secondary"))
        case (.fault(let first, _), .fault(let second, _)): throw both(first, second, backup())
        }
    }

    private static func newer(_ primary: LUKSVolume, _ secondary: LUKSVolume) throws(FormatError) -> LUKSVolume {
        guard primary.uuid == secondary.uuid else {
            let inReencryption = primary.isInReencryption || secondary.isInReencryption
            throw .damaged(
                "LUKS2 header (secondary copy): uuid", at: (secondary.copy?.size ?? 0) + 168,
                found: ShownText.quoted(secondary.uuid),
                allowed: "\(ShownText.quoted(primary.uuid)), that of the primary copy",
                advice: "the two copies are of different volumes: "
                    + (inReencryption ? "\(noRestore)" : "\(restore), or erase the copy that does not belong here"))
        }
        let sequence = (primary: primary.copy?.sequenceID ?? 0, secondary: secondary.copy?.sequenceID ?? 0)
        guard sequence.primary != sequence.secondary else { return primary }
        let isPrimary = sequence.primary > sequence.secondary
        let (old, new) = isPrimary ? ("secondary", "primary") : ("primary", "secondary")
        return (isPrimary ? primary : secondary).adding(
            "the \(old) copy of the LUKS2 header is older (sequence id \(min(sequence.primary, sequence.secondary))) "
                + "than the \(new) one (\(max(sequence.primary, sequence.secondary))), which is used: a change of the "
                + "header was interrupted; \(repair)")
    }

    /// What mends a copy. (Any command of cryptsetup that reads the header does it too, even luksDump.)
    private static let repair =
        "`cryptsetup repair DEVICE` writes it anew \(LUKSSupport.whatIsDevice)"

    private static func warning(_ fault: LUKSFault, _ damaged: String, _ used: String) -> String {
        "the \(damaged) copy of the LUKS2 header is damaged, so the \(used) one is used (\(fault.sentence)); \(repair)"
    }

    private static let restore =
        "restore the header from a backup: `cryptsetup luksHeaderRestore --header-backup-file BACKUP DEVICE` "
        + LUKSSupport.whatIsDevice

    /// A backup that is older than a reencryption does not hold the new key, and the data is lost with the header.
    private static let noRestore =
        "a reencryption has begun, so do not restore an older header: it cannot open what has been encrypted anew; with a "
        + "copy of the whole image, try \(LUKSSupport.resume)"

    /// What to do when no copy can be used.
    ///
    /// - Parameter size: where the copies end, as far as is known, in bytes.
    private static func backupAdvice(_ device: any BlockDevice, _ size: UInt64) -> String {
        // The JSON may be damaged itself, so the requirement is looked for in its bytes.
        let bytes = (try? device.read(count: Int(min(size, device.size)), at: 0)) ?? []
        guard !bytes.contains(Array("online-reencrypt".utf8)) else { return noRestore }
        return "\(restore), or compare the image with the original"
    }

    private static func both(_ first: LUKSFault, _ second: LUKSFault, _ backup: String) -> FormatError {
        if first.unreadable != nil, let unreadable = second.unreadable { return .unreadable(Sentence(unreadable)) }
        let isCut = first.advice == LUKS1Header.headerCutAdvice
        let advice: Sentence =
            isCut
            ? LUKS1Header.headerCutAdvice
            : first.isTheSame(as: second)
                ? "both copies of the header say so; \(first.advice ?? Sentence(backup))"
                : "the other copy is damaged too (\(second.sentence)); \(backup)"
        return .damaged(first.field, at: first.offset, found: first.found, allowed: first.allowed, advice: advice)
    }

    private static func withoutSecondary(_ fault: LUKSFault, _ backup: String) -> FormatError {
        if let unreadable = fault.unreadable { return .unreadable(Sentence(unreadable)) }
        return .damaged(
            fault.field, at: fault.offset, found: fault.found, allowed: fault.allowed,
            advice: fault.advice == LUKS1Header.headerCutAdvice
                ? LUKS1Header.headerCutAdvice
                : "there is no second copy of the header at any of its places; \(backup)")
    }
}

extension LUKSVolume {
    fileprivate init(_ binary: LUKS2BinaryHeader, _ metadata: LUKS2Metadata, isPrimary: Bool) {
        self.init(
            version: 2, uuid: binary.uuid, label: binary.label, subsystem: binary.subsystem,
            keyslots: metadata.keyslots, otherKeyslots: metadata.otherKeyslots, digests: metadata.digests,
            segments: metadata.segments, tokens: metadata.tokens, requirements: metadata.requirements,
            flags: metadata.flags, headerSize: metadata.headerSize,
            copy: HeaderCopy(isPrimary: isPrimary, sequenceID: binary.sequenceID, size: binary.size), warnings: [])
    }

    /// The same with another warning.
    fileprivate func adding(_ warning: String) -> LUKSVolume {
        var copy = self
        copy.warnings.append(warning)
        return copy
    }
}
