// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// What of LUKS this program reads and writes.
public enum LUKSSupport {
    /// Refuses, by name, every volume that could not be read in full.
    ///
    /// Ciphers and hashes are not looked at: that is for who builds them.
    /// - Throws: ``FormatError`` with code `unsupported`: one sentence that says what the volume uses and what to do.
    public static func check(_ volume: LUKSVolume) throws(FormatError) {
        try checkReencryption(volume)
        try checkHardware(volume)
        try checkRequirements(volume)
        for segment in volume.segments { try check(segment) }
    }

    /// Refuses, by name, every volume whose data is not written to.
    ///
    /// - Throws: ``FormatError`` with code `unsupported`: one sentence that says why, and what to do.
    public static func checkWritable(_ volume: LUKSVolume) throws(FormatError) {
        try check(volume)
        guard volume.isInReencryption else { return }
        throw .unsupported(
            "a reencryption of the LUKS2 volume was initialised: what is written now may be missed by it; finish it with "
                + "\(resume), or leave out \(remedy: .writable)")
    }

    /// What finishes a reencryption; the header may be anywhere.
    static let resume =
        "`cryptsetup reencrypt --resume-only DEVICE` (with --force-offline-reencrypt if that is a file, and --header FILE if "
        + "the header is in another file; for a disk in an image, where cryptsetup sees the disk)"

    /// What DEVICE stands for in a command of cryptsetup that needs the header alone.
    static let whatIsDevice =
        "(the device or file that holds the header; for a disk in an image, where cryptsetup sees the disk)"

    private static let notRead = "which nbdecrypt does not read"
    private static let known = [
        "offline-reencrypt", "online-reencrypt", "online-reencrypt-v2", "online-reencrypt-v3", "opal", "inline-hw-tags",
    ]

    private static func checkReencryption(_ volume: LUKSVolume) throws(FormatError) {
        if volume.requirements.contains("offline-reencrypt") {
            throw .unsupported(
                "the LUKS2 volume is in the middle of an offline reencryption (requirement offline-reencrypt), "
                    + "\(notRead); finish it with cryptsetup-reencrypt of a cryptsetup before 2.5, which began it")
        }
        guard volume.isInOnlineReencryption, !volume.isOnlyInitialised else { return }
        let keyslot = volume.otherKeyslots.first { $0.type == "reencrypt" }
        let isCrashed = volume.segments.contains(where: \.isInReencryption)
        var details = [
            keyslot?.mode.map { "mode \($0)" }, keyslot?.direction.map { "direction \($0)" },
            keyslot?.resilience.map { "resilience \($0)" },
            isCrashed ? "state crash: it stopped in the middle of a step" : "state clean: it stopped between two steps",
        ].compactMap { $0 }
        if let requirement = volume.requirements.first(where: LUKSVolume.isReencryption) {
            details.append("requirement \(requirement)")
        }
        throw .unsupported(
            "the LUKS2 volume is in the middle of a reencryption (\(details.joined(separator: ", "))), \(notRead); "
                + "finish it with \(resume)")
    }

    private static func checkHardware(_ volume: LUKSVolume) throws(FormatError) {
        let opal = volume.segments.lazy.compactMap { segment in
            if case .other(let type) = segment.kind, type.hasPrefix("hw-opal") { type } else { nil }
        }.first
        if let opal = opal ?? (volume.requirements.contains("opal") ? "opal" : nil) {
            throw .unsupported(
                "the LUKS2 volume is encrypted by the drive itself (OPAL, \(opal)), \(notRead): only the drive can "
                    + "decrypt it; open it with cryptsetup on the machine that has the drive")
        }
        if volume.requirements.contains("inline-hw-tags") {
            throw .unsupported(
                "the LUKS2 volume keeps authentication tags in the sectors of the drive (requirement inline-hw-tags), "
                    + "\(notRead); open it with cryptsetup on the machine that has the drive")
        }
    }

    private static func checkRequirements(_ volume: LUKSVolume) throws(FormatError) {
        let unknown = volume.requirements.filter { !known.contains($0) }
        guard unknown.isEmpty else {
            throw .unsupported(
                "the LUKS2 volume must not be opened by programs that do not know its requirements, which nbdecrypt "
                    + "does not: \(unknown.joined(separator: ", ")); use the version of cryptsetup that made it")
        }
    }

    private static func check(_ segment: LUKSSegment) throws(FormatError) {
        switch segment.kind {
        case .linear, .crypt: return
        case .integrity(let encryption, let integrity, _):
            throw .unsupported(
                "segment \(segment.number) of the LUKS2 volume has integrity protection (\(integrity) with "
                    + "\(encryption)), \(notRead); open it with cryptsetup and copy the disk")
        case .other(let type):
            throw .unsupported(
                "segment \(segment.number) of the LUKS2 volume is of type \(ShownText.quoted(type)), which nbdecrypt "
                    + "does not know; use the version of cryptsetup that made it")
        }
    }
}

extension LUKSVolume {
    /// A reencryption of any kind has begun and not ended: what the header says of the data may not be all.
    public var isInReencryption: Bool { requirements.contains("offline-reencrypt") || isInOnlineReencryption }

    /// One that `cryptsetup reencrypt --resume-only` ends.
    public var isInOnlineReencryption: Bool {
        requirements.contains(where: Self.isReencryption) || otherKeyslots.contains { $0.type == "reencrypt" }
            || segments.contains { $0.isBackup || $0.isInReencryption }
    }

    /// A reencryption has been written down (`cryptsetup reencrypt --init-only`), and no data has been changed: the only
    /// segment is the whole disk as it was, under the key that it had.
    ///
    /// cryptsetup changes both copies of the header before it touches data, so both must say so. Whoever forges a header to
    /// say so gains nothing: the segment is an encrypted one, its digest proves the old key, and nothing is written.
    public var isOnlyInitialised: Bool {
        let known: Set = ["online-reencrypt", "online-reencrypt-v2", "online-reencrypt-v3"]
        let backups = segments.filter(\.isBackup)
        guard isInOnlineReencryption, !requirements.isEmpty, known.isSuperset(of: requirements), warnings.isEmpty,
            otherKeyslots.count(where: \.isOfReencryption) == 1, disk.count == 1, let segment = disk.first,
            case .crypt = segment.kind, segment.flags.isEmpty, backups.count == 2,
            let previous = backups.first(where: { $0.flags == ["backup-previous"] }),
            backups.contains(where: { $0.flags == ["backup-final"] })
        else { return false }
        let isAsBefore =
            segment.kind == previous.kind && segment.offset == previous.offset && segment.size == previous.size
        let provers = digests.filter { $0.segments.contains(segment.number) }
        return isAsBefore && provers.count == 1 && provers[0].segments.contains(previous.number)
    }

    /// What is said of a volume that ``isOnlyInitialised``, and what ends it.
    public static let initialisedSentence =
        "a reencryption was initialised and has changed no data yet: the disk is still under the old key; "
        + "to go on with it, type \(LUKSSupport.resume)"

    fileprivate static func isReencryption(_ requirement: String) -> Bool {
        requirement == "online-reencrypt" || requirement.hasPrefix("online-reencrypt-v")
    }
}
