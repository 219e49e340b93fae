// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A volume group, as far as its physical volumes have been found.
public struct LVMVolumeGroup: Sendable {
    /// As people know it; good for a part of a path.
    public var name: String { description.name }
    let description: LVMGroupDescription
    /// The physical volumes that were found, by their names in the description.
    private let found: [String: LVMPhysicalVolume]
    /// Those that were found twice.
    private let ambiguous: Set<String>

    /// - Parameters:
    ///   - description: the newest.
    ///   - candidates: all physical volumes that were found.
    init(_ description: LVMGroupDescription, _ candidates: [LVMPhysicalVolume]) {
        self.description = description
        var found: [String: LVMPhysicalVolume] = [:]
        var ambiguous: Set<String> = []
        for (name, member) in description.members {
            let fitting = candidates.filter { $0.identifier == member.identifier && $0.mayBelong(to: description) }
            if let first = fitting.first { found[name] = first }
            if fitting.count > 1 { ambiguous.insert(name) }
        }
        self.found = found
        self.ambiguous = ambiguous
    }

    /// Of the physical volumes that were found, what people know them as.
    public var places: [String] { found.values.map(\.name).sorted() }

    /// What people see of the group, in the order of the metadata: volumes that are parts of others are not among them.
    public var volumes: [LVMLogicalVolume] {
        let descriptionsOfSnapshots = Set(description.snapshots.values.map(\.volume))
        return description.volumes.filter { volume in
            description.snapshots[volume.name] != nil
                || volume.isVisible && !descriptionsOfSnapshots.contains(volume.name)
        }.map { LVMLogicalVolume(volume: $0, group: self) }
    }

    /// Extents of a physical volume of the group.
    ///
    /// - Parameter volume: for messages.
    func extents(of area: LVMSegment.Area, count: UInt64, volume: String) throws(FormatError) -> any BlockDevice {
        guard let member = description.members[area.holder] else {
            throw .unsupported(
                "logical volume \(volume) lies on another logical volume (\(LVMLogicalVolume.shown(area.holder))), which nbdecrypt does not read; \(LVMLogicalVolume.advice)"
            )
        }
        let last = member.device.isEmpty ? "" : ", \(member.device) when the group was last changed"
        guard let physical = found[area.holder] else {
            throw .unsupported(
                "logical volume \(volume) needs a physical volume that is not on this disk (\(dashed(member.identifier))\(last)); open a disk on which the whole volume group is"
            )
        }
        guard !ambiguous.contains(area.holder) else {
            throw .unsupported(
                "logical volume \(volume) needs the physical volume \(dashed(member.identifier)), which is on this disk twice; take its partition alone, with \(remedy: .partition(nil))"
            )
        }
        guard !member.isMissing else {
            throw .unsupported(
                "logical volume \(volume) needs \(physical.name), which LVM has marked as missing, so that its contents may be out of date; \(LVMLogicalVolume.advice)"
            )
        }
        // Both are within 32 bits, and the end of all extents of a member was checked to be within 64.
        let start = member.start + area.firstExtent * description.extentSize
        guard let range = ByteRange(offset: start, length: count * description.extentSize) else {
            throw .unsupported("logical volume \(volume) has extents behind the end of \(physical.name)")
        }
        if let reason = physical.check(member, upTo: range.end) {
            throw .unsupported(
                "logical volume \(volume) cannot be read: \(reason); compare the image with the original or a backup")
        }
        return WindowDevice(physical.device, range)
    }

    private func dashed(_ identifier: String) -> String {
        let characters = Array(identifier)
        let ends = [6, 10, 14, 18, 22, 26, 32]
        let starts = [0] + ends.dropLast()
        return zip(starts, ends).map { String(characters[$0..<min($1, characters.count)]) }.joined(separator: "-")
    }
}

extension LVMPhysicalVolume {
    /// Nothing on it says that it is in another group now, or in none.
    fileprivate func mayBelong(to group: LVMGroupDescription) -> Bool {
        !isUnused && (descriptions.isEmpty || descriptions.contains { $0.identifier == group.identifier })
    }
}
