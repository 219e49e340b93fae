// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// "segments" of a LUKS2 header.
///
/// Source: LUKS2 On-Disk Format Specification 1.1.1, section 3.3. Regular segments, which make the disk in the order of
/// their numbers, come first; a reencryption puts those with a "backup-…" flag behind them.
struct LUKS2Segments {
    private(set) var all: [LUKSSegment] = []
    private let section: LUKS2Field

    init(
        _ section: LUKS2Field, _ config: LUKS2Config, _ surroundings: LUKSSurroundings
    ) throws(LUKSFault) {
        self.section = section
        for (number, segment) in try section.numbered(limit: LUKS2Metadata.maximumSegments) {
            guard number == all.count else {
                throw section.fault(
                    found: "segment \(number) after \(all.count) segments", allowed: "numbers from 0 on without a gap")
            }
            let segment = try Self.segment(number, segment)
            if all.last?.isBackup == true, !segment.isBackup {
                throw section.fault(
                    found: "segment \(number) behind a backup segment", allowed: "backup segments at the end")
            }
            all.append(segment)
        }
        guard all.first?.isBackup == false else {
            throw section.fault(found: "no segment", allowed: "at least one segment that is no backup")
        }
        for segment in all where !segment.isBackup {
            try check(segment, isLast: !all.contains { $0.number == segment.number + 1 && !$0.isBackup })
            try compare(segment, config, surroundings)
        }
        // In a reencryption data may have moved; no requirement, no reencryption.
        if config.requirements.isEmpty { try checkOrder() }
    }

    private static func segment(_ number: Int, _ segment: LUKS2Field) throws(LUKSFault) -> LUKSSegment {
        let offset = try segment.member("offset")
        let start = try offset.decimal()
        guard start % 512 == 0 else { throw offset.fault(allowed: "a multiple of 512") }
        let size = try segment.member("size")
        let length: UInt64? = try size.text() == "dynamic" ? nil : try size.decimal()
        let flags = try segment.optional("flags")?.texts().map { ShownText.printable($0) } ?? []
        let (kind, unit) = try kind(segment, isBackup: LUKSSegment.areOfBackup(flags))
        if let length {
            guard length > 0, length % unit == 0 else {
                throw size.fault(allowed: "\"dynamic\" or a multiple of \(unit), more than 0")
            }
            guard ByteRange(offset: start, length: length) != nil else {
                throw size.fault(allowed: "an end that is less than 2^64")
            }
        }
        return LUKSSegment(
            number: number, offset: start, size: length, kind: kind, flags: flags)
    }

    /// What a segment is, and the unit of its size in bytes. Of what is not served, no more than the type must be right.
    private static func kind(
        _ segment: LUKS2Field, isBackup: Bool
    ) throws(LUKSFault) -> (LUKSSegment.Kind, unit: UInt64) {
        do throws(LUKSFault) { return try kind(segment) } catch {
            guard isBackup else { throw error }
            return (.other(ShownText.printable(try segment.member("type").text())), 512)
        }
    }

    private static func kind(_ segment: LUKS2Field) throws(LUKSFault) -> (LUKSSegment.Kind, unit: UInt64) {
        let type = try segment.member("type").text()
        switch type {
        case "linear": return (.linear, 512)
        case "crypt": break
        default: return (.other(ShownText.printable(type)), 512)
        }
        let encryption = try segment.member("encryption").name()
        let sectorSize = try segment.member("sector_size")
        let unit = try sectorSize.integer(0...UInt32.max)
        guard [512, 1024, 2048, 4096].contains(unit) else {
            throw sectorSize.fault(allowed: "512, 1024, 2048 or 4096")
        }
        let tweak = try segment.member("iv_tweak").decimal()
        if let integrity = try segment.optional("integrity") {
            let name = try integrity.member("type").name()
            return (.integrity(encryption: encryption, integrity: name, sectorSize: Int(unit)), UInt64(unit))
        }
        return (.crypt(encryption: encryption, sectorSize: Int(unit), ivTweak: tweak), UInt64(unit))
    }

    private func field(_ segment: LUKSSegment, _ name: String) throws(LUKSFault) -> LUKS2Field {
        try section.member(String(segment.number)).member(name)
    }

    private func check(_ segment: LUKSSegment, isLast: Bool) throws(LUKSFault) {
        guard segment.size != nil || isLast else {
            throw try field(segment, "size").fault(allowed: "a size in bytes: only the last segment may be dynamic")
        }
    }

    /// Compares a segment with the header and the data device.
    private func compare(
        _ segment: LUKSSegment, _ config: LUKS2Config, _ surroundings: LUKSSurroundings
    ) throws(LUKSFault) {
        guard surroundings.isDetached || segment.offset >= config.headerSize else {
            throw try field(segment, "offset").fault(
                allowed: "at least \(config.headerSize), where the header ends",
                advice: segment.offset == 0 ? LUKS1Header.detachedAdvice : nil)
        }
        guard let dataSize = surroundings.dataSize else { return }
        // A dynamic segment has at least one sector.
        let needed = segment.size ?? UInt64(segment.sectorSize)
        guard ByteRange(offset: segment.offset, length: needed)?.fits(dataSize) == true else {
            throw try field(segment, segment.size == nil ? "offset" : "size").fault(
                found: "\(segment.size == nil ? "data" : "\(needed) bytes") at \(segment.offset)",
                allowed: "data within the \(dataSize) bytes of the device",
                advice: surroundings.isDetached ? LUKS1Header.otherDataAdvice : LUKS1Header.cutAdvice)
        }
    }

    private func checkOrder() throws(LUKSFault) {
        let regular = all.filter { !$0.isBackup }
        for (segment, next) in zip(regular, regular.dropFirst()) {
            let end = segment.offset + (segment.size ?? 0)
            guard next.offset >= end else {
                throw try field(next, "offset").fault(allowed: "at least \(end), where segment \(segment.number) ends")
            }
        }
    }

    /// What cannot be decrypted without a key needs exactly one; what a reencryption has in hand has the old and the new.
    func checkDigests(_ digests: [LUKSDigest]) throws(LUKSFault) {
        for segment in all where segment.isEncrypted && !segment.isBackup {
            let count = digests.count { $0.segments.contains(segment.number) }
            guard count == 1 || count == 2 && segment.isInReencryption else {
                throw try section.member(String(segment.number)).fault(
                    found: count == 0 ? "a segment that no digest names" : "a segment that \(count) digests name",
                    allowed: "one digest for the key of an encrypted segment")
            }
        }
    }
}

extension LUKSVolume {
    /// The segments that make the disk, without what a reencryption keeps.
    public var disk: [LUKSSegment] { segments.filter { !$0.isBackup } }
}

extension LUKSSegment {
    /// A reencryption keeps what a segment was or will be; no part of the disk.
    public var isBackup: Bool { Self.areOfBackup(flags) }

    fileprivate static func areOfBackup(_ flags: [String]) -> Bool { flags.contains { $0.hasPrefix("backup-") } }

    /// cryptsetup marks the segment that it works on; the mark stays when it is stopped in the middle.
    var isInReencryption: Bool { flags.contains("in-reencryption") }

    /// Its sectors, in bytes; 512 for what is not encrypted.
    public var sectorSize: Int {
        switch kind {
        case .crypt(_, let sectorSize, _), .integrity(_, _, let sectorSize): sectorSize
        case .linear, .other: 512
        }
    }

    /// Does a key belong to it?
    public var isEncrypted: Bool {
        switch kind {
        case .crypt, .integrity: true
        case .linear, .other: false
        }
    }
}
