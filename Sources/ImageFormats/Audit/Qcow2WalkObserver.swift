// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Is told, during a ``Qcow2AuditWalk``, what an audit does not keep.
protocol Qcow2WalkObserver: AnyObject {
    /// An entry of the active disk has a cluster of data.
    ///
    /// - Parameters:
    ///   - place: of the entry, in bytes of the file.
    ///   - window: numbers of clusters; the cluster may be in another one.
    func activeDisk(has cluster: UInt64, entryAt place: UInt64, window: Range<UInt64>)

    /// An L2 entry of the active disk is not 0. Each is told of once, in the first pass.
    ///
    /// - Parameters:
    ///   - word: the entry.
    ///   - bitmap: its second word; 0 without subclusters.
    ///   - cluster: of the guest, by number; it may be behind the end of the disk.
    func activeDisk(says word: UInt64, _ bitmap: UInt64, of cluster: UInt64)

    /// The table of some clusters of the active disk, by number, cannot be used.
    func activeDisk(lacks clusters: Range<UInt64>)

    /// An entry has or lacks the flag "used once", and should not.
    ///
    /// - Parameters:
    ///   - word: the entry.
    ///   - place: where it is, in bytes of the file.
    func flagIsWrong(in word: UInt64, at place: UInt64)

    /// All users of the clusters of a window have been counted.
    func didCount(_ window: Qcow2AuditWindow, _ walk: inout Qcow2AuditWalk)
}

extension Qcow2WalkObserver {
    func activeDisk(has cluster: UInt64, entryAt place: UInt64, window: Range<UInt64>) {}
    func activeDisk(says word: UInt64, _ bitmap: UInt64, of cluster: UInt64) {}
    func activeDisk(lacks clusters: Range<UInt64>) {}
    func flagIsWrong(in word: UInt64, at place: UInt64) {}
    func didCount(_ window: Qcow2AuditWindow, _ walk: inout Qcow2AuditWalk) {}
}
