// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The volume groups that lie on some physical volumes: each as its newest description says.
public struct LVMAssembly: Sendable {
    /// In the order of their names.
    public let groups: [LVMVolumeGroup]
    /// Why there are no others: a person who misses something finds the reason here.
    public let faults: [FormatError]

    /// - Parameter found: all that are on one disk.
    public init(_ found: [LVMPhysicalVolume]) {
        var newest: [String: LVMGroupDescription] = [:]
        var contradictory: Set<String> = []
        for description in found.flatMap(\.descriptions) {
            let identifier = description.identifier
            guard let known = newest[identifier], known.sequenceNumber >= description.sequenceNumber else {
                newest[identifier] = description
                contradictory.remove(identifier)
                continue
            }
            if known.sequenceNumber == description.sequenceNumber, known.text != description.text {
                contradictory.insert(identifier)
            }
        }
        var faults = found.flatMap(\.faults)
        let names = Dictionary(grouping: newest.values, by: \.name)
        var groups: [LVMVolumeGroup] = []
        for description in newest.values.sorted(by: { $0.name < $1.name }) {
            if contradictory.contains(description.identifier) {
                faults.append(
                    .unsupported(
                        "volume group \(description.name) has two descriptions with the number \(description.sequenceNumber) that are not the same: which one is right is not known; \(LVMLogicalVolume.advice)"
                    ))
            } else if let others = names[description.name], others.count > 1 {
                // Once for all of them.
                guard others.map(\.identifier).min() == description.identifier else { continue }
                faults.append(
                    .unsupported(
                        "\(others.count) volume groups on this disk are called \(description.name): take the partition of one of them alone, with \(remedy: .partition(nil))"
                    ))
            } else {
                groups.append(LVMVolumeGroup(description, found))
            }
        }
        for physical in found where physical.descriptions.isEmpty && physical.faults.isEmpty {
            guard !groups.contains(where: { $0.places.contains(physical.name) }) else { continue }
            faults.append(
                .unsupported(
                    "\(physical.name) is an LVM physical volume of no volume group that is known here: the metadata of its group is on other disks, or it has none"
                ))
        }
        self.groups = groups
        self.faults = faults
    }
}
