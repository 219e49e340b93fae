// SPDX-License-Identifier: Apache-2.0

/// A part of one cluster of the disk.
struct ClusterPart {
    /// The first byte of the cluster.
    let cluster: GuestOffset
    /// In bytes of the cluster; not empty.
    let range: Range<UInt64>

    /// `count` bytes from `guest` on, all in one cluster.
    init(_ guest: GuestOffset, _ count: Int, _ mapping: Qcow2Mapping) {
        let inCluster = guest.bytes % mapping.clusterSize
        cluster = GuestOffset(guest.bytes - inCluster)
        range = inCluster..<(inCluster + UInt64(count))
    }

    /// What has to be written in the place that the cluster has: whole units, but for those at the ends that are data there.
    ///
    /// - Parameter data: the units that are data in that place.
    func hull(around data: UInt32, _ mapping: Qcow2Mapping) -> Range<UInt64> {
        let units = whole(mapping.units(touching: range), mapping)
        let first = UInt32(1) << UInt32(units.lowerBound >> UInt64(mapping.unitBits))
        let last = UInt32(1) << UInt32((units.upperBound - 1) >> UInt64(mapping.unitBits))
        let start = data & first != 0 ? range.lowerBound : units.lowerBound
        return start..<(data & last != 0 ? range.upperBound : units.upperBound)
    }

    /// What has to be written in a new place: whole units, and all that are data in the old one.
    func hull(keeping data: UInt32, _ mapping: Qcow2Mapping) -> Range<UInt64> {
        whole(mapping.units(touching: range) | data, mapping)
    }

    /// From the first of these units to the last.
    private func whole(_ units: UInt32, _ mapping: Qcow2Mapping) -> Range<UInt64> {
        let first = UInt64(units.trailingZeroBitCount) << UInt64(mapping.unitBits)
        return first..<(UInt64(32 - units.leadingZeroBitCount) << UInt64(mapping.unitBits))
    }
}
