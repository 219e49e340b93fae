// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A logical volume that people know, whether it can be read or not.
public struct LVMLogicalVolume: Sendable {
    /// Within the group; good for a part of a path.
    public var name: String { volume.name }
    /// With the name of the group before it and a slash between them, as LVM itself writes it.
    public var path: String { "\(group.name)/\(volume.name)" }
    /// In bytes, as the metadata says.
    public var size: UInt64 { volume.size }
    private let volume: LVMGroupDescription.Volume
    private let group: LVMVolumeGroup

    init(volume: LVMGroupDescription.Volume, group: LVMVolumeGroup) {
        self.volume = volume
        self.group = group
    }

    /// What can be done about a volume that is not read.
    static let advice = "serve the whole disk to a Linux machine, and activate the volume group there"

    /// In the words of LVM: "linear", "striped", "snapshot" or what the metadata says, which may be several.
    public var type: String {
        if group.description.snapshots[volume.name] != nil { return "snapshot" }
        var types: [String] = []
        for segment in volume.segments {
            let type =
                switch segment.kind {
                case .striped(let areas, _): areas.count > 1 ? "striped" : "linear"
                case .other(let type): Self.shown(type)
                }
            if !types.contains(type), types.count < 4 { types.append(type) }
        }
        return types.joined(separator: ", ")
    }

    /// The volume as a device.
    /// - Throws: ``FormatError`` with code `unsupported` for what is not linear or striped, is changing, or is not all here.
    public func disk() throws(FormatError) -> any BlockDevice {
        try checkRole()
        var parts: [any BlockDevice] = []
        for segment in volume.segments { parts.append(try device(segment)) }
        // Never a window alone, which could be written to.
        guard let disk = ConcatDevice(parts) else { throw refused("is larger than 64 bits allow") }
        return disk
    }

    private func refused(_ reason: String) -> FormatError {
        .unsupported("logical volume \(path) \(reason), which nbdecrypt does not read; \(Self.advice)")
    }

    /// Are the extents of the volume what people see of it?
    private func checkRole() throws(FormatError) {
        let description = group.description
        if let snapshot = description.snapshots[name] {
            throw refused("is a snapshot of \(Self.shown(snapshot.origin))")
        }
        for case .other in volume.segments.map(\.kind) { throw refused("is of type \(type)") }
        if let whole = description.parts[name] { throw refused("is a part of \(Self.shown(whole))") }
        let known: Set = ["READ", "WRITE", "WRITE_LOCKED", "VISIBLE", "FIXED_MINOR"]
        // LOCKED and PVMOVE: extents are being moved.
        if let status = volume.statuses.filter({ !known.contains($0) }).min() {
            throw refused("has the status \(Self.shown(status))")
        }
    }

    private func device(_ segment: LVMSegment) throws(FormatError) -> any BlockDevice {
        guard case .striped(let areas, let chunk) = segment.kind else { throw refused("is of type \(type)") }
        var stripes: [any BlockDevice] = []
        for area in areas {
            stripes.append(try group.extents(of: area, count: segment.areaExtentCount, volume: path))
        }
        if stripes.count == 1, let only = stripes.first { return only }
        guard let striped = StripedDevice(stripes, chunk: chunk) else { throw refused("has stripes of unequal length") }
        return striped
    }

    /// A word out of the metadata, for a message.
    static func shown(_ word: String) -> String {
        ShownText.printable(word, maximumLength: LVMName.maximumLength)
    }
}
