// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// What a text says of a volume group: checked as far as that is possible without its physical volumes.
struct LVMGroupDescription: Sendable {
    /// A physical volume of the group.
    struct Member: Sendable {
        let identifier: String
        /// Of the first extent, in bytes.
        let start: UInt64
        let extentCount: UInt64
        /// LVM has gone on without it, so that what it holds is out of date.
        let isMissing: Bool
        /// The name of the device when the text was written; printable, and empty when it is not said.
        let device: String
    }

    /// A logical volume of the group, also one that is a part of others.
    struct Volume: Sendable {
        let name: String
        /// A disk for people, not a part of another volume.
        let isVisible: Bool
        /// What is said of the volume that a version of LVM has to know which activates it.
        let statuses: Set<String>
        /// In the order of their extents, without a gap.
        let segments: [LVMSegment]
        /// In bytes.
        let size: UInt64
    }

    /// From which all of this was taken.
    let text: [UInt8]
    let name: String
    let identifier: String
    /// Grows with every change.
    let sequenceNumber: UInt64
    /// In bytes.
    let extentSize: UInt64
    /// By their names in the text.
    let members: [String: Member]
    let volumes: [Volume]
    /// Volumes that are the material of others, and one of these.
    let parts: [String: String]
    /// Snapshots, by the names under which people know them: volumes that hold what has been overwritten in another one.
    let snapshots: [String: Snapshot]

    /// What a snapshot was taken of.
    struct Snapshot: Sendable {
        let origin: String
        /// The volume that describes it; not a disk.
        let volume: String
    }

    static let maximumMembers = 1024
    static let maximumVolumes = 1 << 16

    /// - Parameters:
    ///   - text: with a checksum that is right.
    ///   - place: where the text begins on its device, for messages.
    init(_ text: [UInt8], at place: UInt64) throws(FormatError) {
        let root: LVMSection
        do throws(LVMTextParser.Fault) { root = try LVMTextParser.parse(text) } catch {
            throw .damaged(
                "LVM metadata: line \(error.line)", at: place, found: error.reason,
                allowed: "names with values, lists and sections")
        }
        let outermost = LVMFields(root, path: "", place: place)
        guard try outermost.string("contents") == "Text Format Volume Group" else {
            throw outermost.fault("contents", found: "another", allowed: "Text Format Volume Group")
        }
        let version = try outermost.integer("version", in: 0...UInt64.max)
        guard version == 1 else {
            throw .unsupported("LVM metadata at byte \(place) has version \(version); nbdecrypt reads version 1")
        }
        guard let (name, group) = outermost.sections.first, LVMName.isValid(name) else {
            throw outermost.fault("", found: "no section with a valid name", allowed: "a volume group")
        }
        self.text = text
        self.name = name
        identifier = try group.identifier("id")
        sequenceNumber = try group.integer("seqno", in: 0...UInt64(UInt32.max))
        if let format = try group.optionalString("format"), format != "lvm2" {
            throw .unsupported(
                "volume group \(name) is of the format \(ShownText.quoted(format)); nbdecrypt reads lvm2"
            )
        }
        try Self.check(statuses: group.strings("status"), of: name)
        extentSize = 512 * (try group.integer("extent_size", in: 1...UInt64(UInt32.max)))
        members = try Self.members(group, extentSize: extentSize)
        var volumes: [Volume] = []
        var parts: [String: String] = [:]
        var snapshots: [String: Snapshot] = [:]
        let sections = try group.sections("logical_volumes")
        guard sections.count <= Self.maximumVolumes else {
            throw group.fault("logical_volumes", found: "\(sections.count)", allowed: "at most \(Self.maximumVolumes)")
        }
        for (name, fields) in sections {
            let volume = try Volume(name, fields, extentSize: extentSize)
            volumes.append(volume)
            for segment in fields.sections where segment.name.hasPrefix("segment") {
                for part in try Self.parts(segment.fields) { parts[part] = parts[part] ?? name }
                if let (store, snapshot) = try Self.snapshot(segment.fields, of: name) { snapshots[store] = snapshot }
            }
        }
        self.volumes = volumes
        self.parts = parts
        self.snapshots = snapshots
        try checkOverlaps(group)
    }

    /// LVM refuses a group with a status that it does not know.
    private static func check(statuses: [String], of name: String) throws(FormatError) {
        let known: Set = [
            "RESIZEABLE", "READ", "WRITE", "WRITE_LOCKED", "EXPORTED", "PARTIAL", "CLUSTERED", "SHARED", "PVMOVE",
        ]
        guard let other = statuses.first(where: { !known.contains($0) }) else { return }
        throw .unsupported(
            "volume group \(name) has the status \(ShownText.quoted(other)), which this version of nbdecrypt does not know"
        )
    }

    private static func members(_ group: LVMFields, extentSize: UInt64) throws(FormatError) -> [String: Member] {
        let sections = try group.sections("physical_volumes")
        guard sections.count <= maximumMembers else {
            throw group.fault("physical_volumes", found: "\(sections.count)", allowed: "at most \(maximumMembers)")
        }
        var members: [String: Member] = [:]
        for (name, fields) in sections {
            let start = 512 * (try fields.integer("pe_start", in: 0...UInt64.max >> 10))
            let count = try fields.integer("pe_count", in: 0...UInt64(UInt32.max))
            let length = count.multipliedReportingOverflow(by: extentSize)
            guard !length.overflow, ByteRange(offset: start, length: length.partialValue) != nil else {
                throw fields.fault("pe_count", found: "\(count)", allowed: "extents whose end is within 64 bits")
            }
            let isMissing = try (fields.strings("status") + fields.strings("flags")).contains("MISSING")
            members[name] = Member(
                identifier: try fields.identifier("id"), start: start, extentCount: count, isMissing: isMissing,
                device: ShownText.printable(try fields.optionalString("device") ?? ""))
        }
        return members
    }

    /// The volumes that a segment is made of, whatever it is; none for one that lies on physical volumes.
    ///
    /// The origin of a snapshot is a disk of its own, unless the snapshot is being merged into it, and so is what a thin
    /// volume was cloned from.
    private static func parts(_ segment: LVMFields) throws(FormatError) -> [String] {
        let type = try segment.string("type")
        let strings = segment.allStrings
        let isMerging = strings.contains { $0.name == "merging_store" }
        return strings.filter { name, _ in
            switch name {
            case "type", "status", "flags", "tags", "external_origin": false
            case "origin": type != "snapshot" && type != "thin" || isMerging
            default: true
            }
        }.map(\.string)
    }

    private static func snapshot(
        _ segment: LVMFields, of name: String
    ) throws(FormatError) -> (store: String, snapshot: Snapshot)? {
        guard try segment.string("type") == "snapshot" else { return nil }
        let snapshot = Snapshot(origin: try segment.string("origin"), volume: name)
        if let store = try segment.optionalString("cow_store") { return (store, snapshot) }
        return (try segment.string("merging_store"), snapshot)
    }

    /// No extent belongs to two volumes, or twice to one.
    private func checkOverlaps(_ group: LVMFields) throws(FormatError) {
        var runs: [String: [(first: UInt64, end: UInt64)]] = [:]
        for volume in volumes {
            for segment in volume.segments {
                guard case .striped(let areas, _) = segment.kind else { continue }
                for area in areas {
                    let end = area.firstExtent + segment.areaExtentCount
                    if let member = members[area.holder], end > member.extentCount {
                        throw group.fault(
                            "logical_volumes/\(volume.name)", found: "extents up to \(end) of \(area.holder)",
                            allowed: "its \(member.extentCount) extents")
                    }
                    runs[area.holder, default: []].append((area.firstExtent, end))
                }
            }
        }
        for (holder, runs) in runs where members[holder] != nil {
            let sorted = runs.sorted { $0.first < $1.first }
            for (one, next) in zip(sorted, sorted.dropFirst()) where next.first < one.end {
                throw group.fault(
                    "physical_volumes/\(holder)", found: "extent \(next.first) in two places of logical volumes",
                    allowed: "one place")
            }
        }
    }
}

extension LVMGroupDescription.Volume {
    /// - Parameter extentSize: in bytes.
    fileprivate init(_ name: String, _ fields: LVMFields, extentSize: UInt64) throws(FormatError) {
        guard LVMName.isValid(name) else {
            throw fields.fault("", found: "another name", allowed: "letters, digits and \"+_.-\", at most 127")
        }
        self.name = name
        statuses = Set(try fields.strings("status"))
        isVisible = statuses.contains("VISIBLE")
        let count = try fields.integer("segment_count", in: 1...UInt64(LVMTextParser.maximumCount))
        var segments: [LVMSegment] = []
        for (name, fields) in fields.sections where name.hasPrefix("segment") {
            segments.append(try LVMSegment(fields, extentSize: extentSize))
        }
        guard segments.count == count else {
            throw fields.fault("segment_count", found: "\(count)", allowed: "\(segments.count), as there are")
        }
        segments.sort { $0.firstExtent < $1.firstExtent }
        var end: UInt64 = 0
        for segment in segments {
            guard segment.firstExtent == end else {
                throw fields.fault(
                    "start_extent", found: "\(segment.firstExtent)", allowed: "\(end), where the segment before ends")
            }
            // Counts of segments and of their extents have 32 bits at most.
            end += segment.extentCount
        }
        let size = end.multipliedReportingOverflow(by: extentSize)
        guard !size.overflow else {
            throw fields.fault("segment_count", found: "\(end) extents", allowed: "a size within 64 bits")
        }
        self.segments = segments
        self.size = size.partialValue
    }
}
