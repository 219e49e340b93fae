// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Replaces the reference counts that are not what the tables demand, where they are.
final class Qcow2RepairCounts: Qcow2WalkObserver {
    private(set) var raisedCount: UInt64 = 0
    private(set) var loweredCount: UInt64 = 0
    /// Of the file; nothing more is written then.
    private(set) var error: BlockError?

    private let file: any GrowableDevice
    private let layout: Qcow2RefcountBlock
    /// Bytes of a block that are read and written together.
    private static let pieceSize: UInt64 = 4096

    init(_ file: any GrowableDevice, _ header: Qcow2Header) {
        self.file = file
        layout = Qcow2RefcountBlock(header)
    }

    func didCount(_ window: Qcow2AuditWindow, _ walk: inout Qcow2AuditWalk) {
        // Users may be missing otherwise.
        guard walk.isComplete else { return }
        let size = min(Self.pieceSize, walk.mapping.clusterSize)
        let perPiece = (size * 8) >> UInt64(layout.order)
        let end = window.first + UInt64(window.count)
        var first = window.first
        while first < end, error == nil {
            // A window may begin and end within a piece.
            let next = min(end, first / perPiece * perPiece + perPiece)
            let wrong = (first..<next).filter { isWrong($0, window, walk) }
            let number = Int(first >> layout.blockBits)
            // Where there is no block, all counts are 0, and should be.
            let block = number < walk.refcountTable.count ? walk.refcountTable[number] : 0
            if !wrong.isEmpty, block != 0 {
                let start = first & ((1 << layout.blockBits) - 1) / perPiece * perPiece
                do throws(BlockError) {
                    try correct(wrong, window, pieceAt: block + (start << UInt64(layout.order)) / 8, Int(size))
                } catch {
                    self.error = error
                    walk.stop("a count cannot be replaced")
                }
            }
            first = next
        }
    }

    /// Counts behind the end of the file matter to nobody, unless something is there.
    private func isWrong(_ cluster: UInt64, _ window: Qcow2AuditWindow, _ walk: Qcow2AuditWalk) -> Bool {
        let index = Int(cluster - window.first)
        let (users, stored) = (window.users[index], window.stored[index])
        return users != stored && (users > stored || cluster < walk.fileClusterCount)
    }

    private func correct(
        _ clusters: [UInt64], _ window: Qcow2AuditWindow, pieceAt place: UInt64, _ size: Int
    ) throws(BlockError) {
        // The last cluster of a file may be incomplete.
        if place + UInt64(size) > file.size { try file.grow(to: place + UInt64(size)) }
        var bytes = try file.read(count: size, at: place)
        let perPiece = UInt64(size * 8) >> UInt64(layout.order)
        for cluster in clusters {
            let index = Int(cluster - window.first)
            let (users, stored) = (window.users[index], window.stored[index])
            layout.set(users, in: &bytes, atBit: Int(cluster % perPiece) << layout.order)
            if users > stored { raisedCount += 1 } else { loweredCount += 1 }
        }
        try bytes.withMutableBytes { (bytes) throws(BlockError) in try file.write(&bytes, at: place, []) }
    }
}
