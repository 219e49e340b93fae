// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Draws, during an audit, what the clusters of the file and of the active disk are.
final class Qcow2AuditMapper: Qcow2WalkObserver {
    private let mapping: Qcow2Mapping
    private let isEncrypted: Bool
    /// Where the clusters of guest data must begin before, in bytes; nil: not known.
    private let dataEnd: UInt64?
    private(set) var file: AuditMap
    private(set) var disk: AuditMap

    /// - Parameter cellCount: of each map, at most.
    init(file: any BlockDevice, header: Qcow2Header, dataFileSize: UInt64?, cellCount: Int) {
        mapping = header.mapping
        isEncrypted = header.encryption != .none
        dataEnd = header.mapping.hasDataFile ? dataFileSize : file.size
        self.file = AuditMap(of: .file, size: file.size, cellCount: cellCount)
        disk = AuditMap(of: .disk, size: header.virtualSize, cellCount: cellCount)
    }

    /// Tells the maps how the audit has ended.
    func finish(_ walk: Qcow2AuditWalk) {
        if !walk.isComplete { (file.rest, disk.rest) = (.unseen, .unseen) }
        for fault in walk.faults.listed {
            switch fault.kind {
            // Each of them has been told.
            case .refcountTooLow, .overlap, .copiedFlag: continue
            default: fault.offset.map { file.noteFault(at: $0) }
            }
        }
    }

    private var data: AuditMap.Kind { isEncrypted ? .encrypted : .plain }
    private var compressed: AuditMap.Kind { isEncrypted ? .exposed : .compressed }

    // MARK: The file

    func flagIsWrong(in word: UInt64, at place: UInt64) { file.noteFault(at: place) }

    func didCount(_ window: Qcow2AuditWindow, _ walk: inout Qcow2AuditWalk) {
        var (start, kind) = (0, AuditMap.Kind.free)
        func end(_ index: Int) {
            guard index > start else { return }
            let bits = UInt64(mapping.clusterBits)
            file.add((window.first + UInt64(start)) << bits..<(window.first + UInt64(index)) << bits, kind)
        }
        for index in 0..<window.count {
            let next = self.kind(of: index, in: window, isComplete: walk.isComplete)
            guard next != kind else { continue }
            end(index)
            (start, kind) = (index, next)
        }
        end(window.count)
    }

    private func kind(of index: Int, in window: Qcow2AuditWindow, isComplete: Bool) -> AuditMap.Kind {
        let (users, stored) = (window.users[index], window.stored[index])
        let owners = Qcow2AuditOwner(rawValue: window.owners[index])
        let isKnown = stored != Qcow2AuditWindow.unknown
        guard users > 0 else { return !isKnown ? .unseen : stored == 0 ? .free : isComplete ? .lost : .unseen }
        // As when they are compared: counting ends at the highest number.
        let isTooLow = isKnown && stored < users && stored < Qcow2AuditWindow.unknown - 1
        if isTooLow || owners.areInConflict(count: users) { return .damaged }
        if owners == .data { return users > 1 ? .shared : data }
        if owners == .compressed { return compressed }
        return owners == .luksHeader ? .keyslots : .tables
    }

    // MARK: The disk

    func activeDisk(lacks clusters: Range<UInt64>) { addToDisk(clusters, .damaged) }

    func activeDisk(says word: UInt64, _ bitmap: UInt64, of cluster: UInt64) {
        guard mapping.hasSubclusters else {
            return add(
                Qcow2Entry.cluster(l2Entry: word, mapping), word, cluster..<cluster + 1, bits: mapping.clusterBits)
        }
        for unit in 0..<UInt64(32) {
            let part = Qcow2Entry.subcluster(Int(unit), l2Entry: word, bitmap: bitmap, mapping)
            let number = cluster * 32 + unit
            add(part, word, number..<number + 1, bits: mapping.unitBits)
        }
    }

    private func add(_ cluster: MappedCluster, _ word: UInt64, _ units: Range<UInt64>, bits: Int) {
        let kind: AuditMap.Kind
        switch cluster {
        case .unallocated: return
        case .zero: kind = .zeros
        case .data(let host):
            if let dataEnd, host.bytes >= dataEnd {
                kind = .damaged
            } else {
                kind = mapping.hasDataFile || word & Qcow2Entry.copiedFlag != 0 ? data : .shared
            }
        case .compressed(let cluster):
            kind = dataEnd.map { cluster.offset.bytes >= $0 } ?? false ? .damaged : compressed
        case .invalid: kind = .damaged
        }
        disk.add(units.lowerBound << UInt64(bits)..<units.upperBound << UInt64(bits), kind)
    }

    private func addToDisk(_ clusters: Range<UInt64>, _ kind: AuditMap.Kind) {
        let bits = UInt64(mapping.clusterBits)
        // L1 tables may have more entries than the disk needs.
        let end = min(clusters.upperBound, disk.size.units(of: mapping.clusterSize))
        guard clusters.lowerBound < end else { return }
        disk.add(clusters.lowerBound << bits..<end << bits, kind)
    }
}
