// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Corrects the flags "used once" of entries, after the counts.
final class Qcow2RepairFlags: Qcow2WalkObserver {
    private(set) var correctedCount: UInt64 = 0
    /// Of the file; nothing more is written then.
    private(set) var error: BlockError?
    private let file: any GrowableDevice

    init(_ file: any GrowableDevice) { self.file = file }

    func flagIsWrong(in word: UInt64, at place: UInt64) {
        guard error == nil else { return }
        do throws(BlockError) {
            try file.writeEntries([word ^ Qcow2Entry.copiedFlag], at: place)
            correctedCount += 1
        } catch { self.error = error }
    }
}
