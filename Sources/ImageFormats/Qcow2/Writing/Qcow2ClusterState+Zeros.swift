// SPDX-License-Identifier: Apache-2.0

extension Qcow2ClusterState {
    /// What is done so that units of a cluster read as zeros.
    enum Zeroing: Equatable {
        /// They do already.
        case nothing
        /// The entry is replaced.
        case change(Qcow2ClusterState)
        /// Zeros are written.
        case write
    }

    /// How units are made to read as zeros.
    ///
    /// - Parameters:
    ///   - units: whole ones.
    ///   - mayFree: the place may be given up.
    ///   - hasBacking: is there something behind what is not allocated?
    func zeroing(_ units: UInt32, mayFree: Bool, hasBacking: Bool, _ mapping: Qcow2Mapping) -> Zeroing {
        let all = mapping.allUnits
        let isWhole = units == all
        guard mapping.version >= 3 else { return zeroingOfVersion2(mayFree: mayFree, hasBacking: hasBacking) }
        let free = Qcow2ClusterState(place: .none, data: 0, zeros: all)
        if case .compressed = place { return isWhole ? .change(free) : .write }
        let readsAsZeros = hasBacking ? zeros : ~data
        if units & ~readsAsZeros == 0, place == .none || mapping.hasDataFile || !isWhole || !mayFree { return .nothing }
        if isWhole, !mapping.hasDataFile, place != .none, mayFree || ownPlace == nil { return .change(free) }
        return .change(Qcow2ClusterState(place: place, data: data & ~units, zeros: zeros | units))
    }

    /// Version 2 has no mark for zeros: only what has nothing behind it reads as zeros without being stored.
    private func zeroingOfVersion2(mayFree: Bool, hasBacking: Bool) -> Zeroing {
        if hasBacking { return .write }
        if place == .none { return .nothing }
        return mayFree ? .change(.unallocated) : .write
    }

    /// The state of the cluster when nobody needs its contents any more; itself when it stays as it is.
    ///
    /// What is behind it must not come to light again.
    func discarded(hasBacking: Bool, _ mapping: Qcow2Mapping) -> Qcow2ClusterState {
        guard place != .none, mapping.version >= 3 || !hasBacking else { return self }
        // What is free in a data file may hold anything, and has its one place there.
        if mapping.hasDataFile { return Qcow2ClusterState(place: place, data: 0, zeros: mapping.allUnits) }
        return Qcow2ClusterState(place: .none, data: 0, zeros: hasBacking ? mapping.allUnits : 0)
    }
}
