// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The reference counts that the image holds, and what they are compared with.
///
/// Source: qcow2 specification, "Host cluster management".
extension Qcow2AuditWalk {
    private static let offsetMask: UInt64 = 0xFFFF_FFFF_FFFF_FE00

    /// Clusters of one refcount block: log2.
    private var blockBits: UInt64 { Qcow2RefcountBlock(header).blockBits }

    /// Reads the refcount table and finds the windows that its blocks are about.
    mutating func findRefcounts() {
        guard let fixed = read(12, at: 48, "the header") else { return }
        var reader = ByteReader(fixed)
        let offset = reader.integer(UInt64.self) ?? 0
        let length = UInt64(reader.integer(UInt32.self) ?? 0) * mapping.clusterSize
        // Checked by the header, but the file may have changed since.
        guard length <= Qcow2Header.maximumRefcountTableSize,
            let range = note(.refcountTable, at: offset, length: length, "the refcount table"), range.fits(file.size)
        else { return }
        var table: [UInt64] = []
        forEachPiece(of: range, "the refcount table") { _, _, words in table += words }
        refcountTable = table
        for (index, entry) in table.enumerated() where entry != 0 {
            let place = offset + UInt64(index) * 8
            let isAligned = entry & Self.offsetMask & (mapping.clusterSize - 1) == 0
            if entry & ~Self.offsetMask != 0 || !isAligned {
                faults.note(
                    isAligned ? .invalidEntry : .misaligned, at: place,
                    "the refcount table entry at byte \(place) is 0x\(String(entry, radix: 16)), which "
                        + (isAligned ? "has reserved bits set" : "is not the start of a cluster"))
            } else if !isInFile(entry, mapping.clusterSize) {
                faults.note(
                    .outsideFile, at: place,
                    "the refcount table entry at byte \(place) points to byte \(entry), outside the file's "
                        + "\(file.size) bytes")
            }
            let first = UInt64(index) << blockBits
            guard first < fileClusterCount else { continue }
            need(first, min(fileClusterCount - 1, first + (1 << blockBits) - 1))
        }
    }

    /// Whether a refcount block can be at this place.
    private func isBlock(_ entry: UInt64) -> Bool {
        entry != 0 && entry & ~Self.offsetMask == 0 && entry & (mapping.clusterSize - 1) == 0
            && isInFile(entry, mapping.clusterSize)
    }

    mutating func countRefcountBlocks() {
        guard spend(UInt64(refcountTable.count) * 8) else { return }
        for entry in refcountTable where isBlock(entry) {
            reference(entry, mapping.clusterSize, .refcountBlock, 1)
        }
    }

    /// Reads the stored reference counts of the window.
    mutating func loadRefcounts() {
        let end = window.first + UInt64(window.count)
        var cluster = window.first
        while cluster < end {
            let block = cluster >> blockBits
            let blockEnd = min(end, (block + 1) << blockBits)
            guard block < UInt64(refcountTable.count) else { return }
            let entry = refcountTable[Int(block)]
            if isBlock(entry) {
                loadRefcounts(cluster..<blockEnd, block: entry)
            } else if entry & ~Self.offsetMask != 0 || entry & (mapping.clusterSize - 1) != 0 {
                for index in cluster..<blockEnd {
                    window.store(Qcow2AuditWindow.unknown, at: Int(index - window.first))
                }
            }
            cluster = blockEnd
        }
    }

    /// Reads those of one block; what is behind the end of the file is zero.
    private mutating func loadRefcounts(_ clusters: Range<UInt64>, block: UInt64) {
        let layout = Qcow2RefcountBlock(header)
        let order = UInt64(layout.order)
        let firstInBlock = clusters.lowerBound & ((1 << blockBits) - 1)
        let firstByte = (firstInBlock << order) / 8
        let lastByte = (((firstInBlock + UInt64(clusters.count)) << order) - 1) / 8
        let available = file.size - block
        guard firstByte < available else { return }
        let count = Int(min(lastByte + 1, available) - firstByte)
        let bytes = read(count, at: block + firstByte, "a refcount block")
        for cluster in clusters {
            let index = Int(cluster - window.first)
            guard let bytes else {
                window.store(Qcow2AuditWindow.unknown, at: index)
                continue
            }
            let bit = (cluster & ((1 << blockBits) - 1)) << order - firstByte * 8
            window.store(layout.count(in: bytes, atBit: Int(bit)), at: index)
        }
    }

    /// Compares users and stored counts, and looks for clusters with owners that cannot share.
    mutating func compare() {
        for index in 0..<window.count {
            let (users, stored) = (window.users[index], window.stored[index])
            let owners = Qcow2AuditOwner(rawValue: window.owners[index])
            if users != stored { compare(users, stored, window.first + UInt64(index)) }
            if owners.areInConflict(count: users) {
                let place = (window.first + UInt64(index)) << UInt64(mapping.clusterBits)
                faults.note(.overlap, at: place, "the cluster at byte \(place) holds \(owners.description)")
            }
        }
    }

    private mutating func compare(_ users: UInt32, _ stored: UInt32, _ cluster: UInt64) {
        guard stored != Qcow2AuditWindow.unknown else { return }
        let place = cluster << UInt64(mapping.clusterBits)
        if stored < users {
            // Counting ends there; the stored one does, too.
            guard stored < Qcow2AuditWindow.unknown - 1 else { return }
            faults.note(
                .refcountTooLow, at: place,
                "the cluster at byte \(place) has reference count \(stored), but \(users) "
                    + (users == 1 ? "user" : "users"))
        } else if isComplete, cluster < fileClusterCount {
            lost.note(place)
        }
    }
}
