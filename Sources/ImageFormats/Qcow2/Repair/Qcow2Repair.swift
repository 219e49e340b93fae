// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Rebuilds the reference counts of a qcow2 image whose dirty bit is set: QEMU leaves it so when it writes them late
/// (`lazy_refcounts`) and is not ended properly.
///
/// The counts that the tables demand are written where others are, the flags "used once" are corrected, and blocks of counts
/// that are missing are added. Until all of that is on disk the dirty bit stays, so that a power failure leaves what can be
/// repaired again. Memory and work are those of a ``Qcow2Audit``, three times over.
public struct Qcow2Repair: Equatable, Sendable, SentenceConvertible {
    /// Counts that were too low.
    public let raisedCount: UInt64
    /// Counts that were too high: space that was lost is free again.
    public let loweredCount: UInt64
    /// Entries whose flag "used once" was wrong.
    public let flagCount: UInt64
    /// Blocks of counts that were missing.
    public let blockCount: Int

    /// Repairs an image.
    ///
    /// - Parameters:
    ///   - file: writable; nobody else uses it. Holds `header`, which is to be read again afterwards.
    ///   - dataFileSize: the size in bytes of the external data file; nil when there is none or it is not known.
    /// - Returns: nil when the dirty bit is not set: nothing has been examined, and nothing changed.
    /// - Throws: ``FormatError``. When it is `damaged` or `unsupported`, the image is as it was: it has faults that no count
    ///   mends, or the corrupt bit. `unreadable`: the file could not be read or changed; it may be tried again.
    public init?(
        file: any GrowableDevice, header: Qcow2Header, dataFileSize: UInt64? = nil
    ) throws(FormatError) {
        try self.init(file: file, header: header, dataFileSize: dataFileSize, limits: .usual)
    }

    init?(
        file: any GrowableDevice, header: Qcow2Header, dataFileSize: UInt64?, limits: Qcow2AuditLimits
    ) throws(FormatError) {
        guard header.features.contains(.dirty) else { return nil }
        try Qcow2Support.checkRepairable(header)
        let survey = Qcow2RepairSurvey(header, fileSize: file.size)
        var walk = Qcow2AuditWalk(file: file, header: header, dataFileSize: dataFileSize, limits: limits)
        walk.observer = survey
        walk.run { _ in }
        try Self.refuse(walk, survey.refusal)
        let blocks = try Qcow2RepairBlocks(survey, table: walk.refcountTable, header)
        let counts = Qcow2RepairCounts(file, header)
        let flags = Qcow2RepairFlags(file)
        do throws(BlockError) {
            try Qcow2HeaderChange.clearUnknownAutoclearBits(file, header)
            try blocks.add(to: file, table: walk.refcountTable, header)
        } catch { throw Self.failure(error) }
        // With the refcount table as it is now.
        guard let present = try Qcow2Header(device: file) else { throw .notRecognised("the image has lost its header") }
        func pass(_ observer: any Qcow2WalkObserver) -> Qcow2AuditWalk {
            var walk = Qcow2AuditWalk(file: file, header: present, dataFileSize: dataFileSize, limits: limits)
            walk.observer = observer
            walk.run { _ in }
            return walk
        }
        let counted = pass(counts)
        if let error = counts.error { throw Self.failure(error) }
        if let reason = counted.incompleteness { throw Self.refusal(Sentence(reason), isUnchanged: false) }
        let last = pass(flags)
        if let error = flags.error { throw Self.failure(error) }
        // The counts are right now, or something is wrong here.
        guard last.isComplete, last.lost.count == 0, last.faults.total == last.faults.counts[.copiedFlag, default: 0]
        else { throw Self.refusal(last.faults.listed.first { $0.kind != .copiedFlag }?.sentence, isUnchanged: false) }
        do throws(BlockError) {
            try file.flush()
            try Qcow2HeaderChange.clearDirtyBit(file, present)
        } catch { throw Self.failure(error) }
        (raisedCount, loweredCount) = (counts.raisedCount, counts.loweredCount)
        (flagCount, blockCount) = (flags.correctedCount, blocks.blocks.count)
    }

    /// What was done.
    public var sentence: Sentence {
        guard raisedCount > 0 || loweredCount > 0 || flagCount > 0 || blockCount > 0 else {
            return "the image was not closed properly, but nothing was wrong: the dirty bit is cleared"
        }
        return "the image was not closed properly, and its reference counts have been rebuilt: \(raisedCount) raised, "
            + "\(loweredCount) lowered, \(flagCount) flags of entries corrected, \(blockCount) blocks added; the dirty bit is "
            + "cleared"
    }

    // MARK: Refusals

    private static func refuse(_ walk: Qcow2AuditWalk, _ reason: Sentence?) throws(FormatError) {
        let mended: Set<AuditFault.Kind> = [.refcountTooLow, .copiedFlag]
        let others = walk.faults.counts.filter { !mended.contains($0.key) }
        if !others.isEmpty || reason != nil {
            throw refusal(walk.faults.listed.first { !mended.contains($0.kind) }?.sentence ?? reason, isUnchanged: true)
        }
        if let reason = walk.incompleteness { throw refusal(Sentence(reason), isUnchanged: true) }
    }

    private static func refusal(_ reason: Sentence?, isUnchanged: Bool) -> FormatError {
        .unsupported(
            "the image has its dirty bit set, and more is wrong with it than reference counts: "
                + "\(reason ?? "its tables have too many faults to tell them"); "
                + (isUnchanged ? "nothing has been changed; " : "the dirty bit stays; ")
                + "\(remedy: .auditImage) says what is wrong; open it read-only and copy what is left")
    }

    private static func failure(_ error: BlockError) -> FormatError {
        .unreadable("the image has its dirty bit set, and could not be repaired: \(error)")
    }
}
