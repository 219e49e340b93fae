// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Looks, before anything is changed, whether counting anew is all that an image needs, and what is missing for that.
final class Qcow2RepairSurvey: Qcow2WalkObserver {
    /// Numbers of blocks that are missing, and would have a count that is not 0.
    private(set) var missingBlocks: Set<Int> = []
    /// No cluster from here on is used.
    private(set) var end: UInt64
    /// Why the counts cannot be what they should; the first reason is kept.
    private(set) var refusal: Sentence?

    private let layout: Qcow2RefcountBlock
    private let clusterBits: UInt64
    /// Clusters of the window that an entry of the active disk has, a bit for each.
    private var claimed: [UInt64] = []

    init(_ header: Qcow2Header, fileSize: UInt64) {
        layout = Qcow2RefcountBlock(header)
        clusterBits = UInt64(header.clusterBits)
        end = fileSize.units(of: header.clusterSize)
    }

    /// Two entries of one disk cannot both be right. A count of 2 would only hide that.
    func activeDisk(has cluster: UInt64, entryAt place: UInt64, window: Range<UInt64>) {
        guard window.contains(cluster) else { return }
        if claimed.isEmpty { claimed = [UInt64](repeating: 0, count: window.count / 64 + 1) }
        let index = Int(cluster - window.lowerBound)
        let bit: UInt64 = 1 << UInt64(index % 64)
        if claimed[index / 64] & bit != 0 {
            refuse(
                "the cluster at byte \(cluster << clusterBits) belongs to two entries of the disk, one of them at byte \(place)"
            )
        }
        claimed[index / 64] |= bit
    }

    func didCount(_ window: Qcow2AuditWindow, _ walk: inout Qcow2AuditWalk) {
        claimed = []
        let last = window.first + UInt64(window.count) - 1
        if window.count > 0, window.users[window.count - 1] > 0 { end = max(end, last + 1) }
        for index in 0..<window.count where window.users[index] > 0 {
            let cluster = window.first + UInt64(index)
            let users = window.users[index]
            if users == .max || UInt64(users) > layout.maximum {
                refuse(
                    "the cluster at byte \(cluster << clusterBits) has \(users) users, and its count cannot be more than "
                        + "\(min(layout.maximum, UInt64(UInt32.max - 1)))")
            }
            let block = Int(cluster >> layout.blockBits)
            guard block < Qcow2RepairBlocks.maximumTableCount else {
                refuse("the cluster at byte \(cluster << clusterBits) is farther than any refcount table reaches")
                continue
            }
            if block >= walk.refcountTable.count || walk.refcountTable[block] == 0 { missingBlocks.insert(block) }
        }
    }

    private func refuse(_ reason: Sentence) {
        if refusal == nil { refusal = reason }
    }
}
