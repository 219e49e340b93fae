// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Checking and counting the entries of L2 tables.
extension Qcow2AuditWalk {
    private static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00
    private static let reservedBits: UInt64 = 0x3F00_0000_0000_01FE
    private static let compressedFlag: UInt64 = 1 << 62
    private static let copiedFlag: UInt64 = 1 << 63
    private static let zeroFlag: UInt64 = 1
    /// Neighbouring tables are read together up to this many bytes.
    private static let runSize: UInt64 = 64 << 10
    /// Asking where a hole ends, in bytes that could be read meanwhile.
    private static let workForHole: UInt64 = 16 << 10

    /// Reads the L2 tables, in the first pass all of them, then those that lead to the window.
    mutating func countL2Tables(_ progress: (Double) -> Void) {
        let number = window.first >> UInt64(limits.windowBits)
        guard spend(UInt64(tables.count) * Self.workForArea) else { return }
        for table in tables { reference(table.offset, mapping.clusterSize, .l2Table, table.weight) }
        var start = 0
        while start < tables.count {
            guard isFirstPass || tables[start].touches(number) else {
                start += 1
                continue
            }
            var end = start + 1
            while end < tables.count, UInt64(end - start) < Self.runSize / mapping.clusterSize,
                tables[end].offset == tables[end - 1].offset + mapping.clusterSize,
                isFirstPass || tables[end].touches(number)
            {
                end += 1
            }
            guard countTables(start..<end) else { return }
            start = end
            progress(Double(start) / Double(tables.count))
        }
    }

    /// Counts what tables use that lie together, or one table.
    ///
    /// - Returns: false when there was enough work.
    private mutating func countTables(_ range: Range<Int>) -> Bool {
        let start = tables[range.lowerBound].offset
        let end = start + UInt64(range.count) * mapping.clusterSize
        var place = start
        // Taken out, so that the counters can be changed while it is read.
        var buffer = swapBuffer([])
        defer { _ = swapBuffer(buffer) }
        while place < end {
            if let hole = hole(at: place, in: start..<end) {
                guard spend(Self.workForHole) else { return false }
                place = hole
                continue
            }
            let count = Int(min(Self.runSize, end - place))
            guard spend(UInt64(count)) else { return false }
            if let error = fill(&buffer, count, at: place) {
                guard range.count == 1 else {
                    for index in range { guard countTables(index..<(index + 1)) else { return false } }
                    return true
                }
                noteUnreadable("an L2 table", at: place, error)
                if isFirstPass, tables[range.lowerBound].isActive {
                    let all = clusters(ofEntry: tables[range.lowerBound].activeEntry)
                    observer?.activeDisk(lacks: all.lowerBound + entryNumber(at: place - start)..<all.upperBound)
                }
                return true
            }
            // A piece holds whole tables, or a part of one.
            let size = min(count, Int(mapping.clusterSize))
            for position in stride(from: 0, to: count, by: size) {
                let table = range.lowerBound + Int((place - start + UInt64(position)) / mapping.clusterSize)
                self.count(buffer, position..<(position + size), at: place + UInt64(position), table)
            }
            place += UInt64(count)
        }
        return true
    }

    /// Large tables in a hole of the file are all zeros and need not be read: where the hole ends, in whole pieces.
    private func hole(at place: UInt64, in range: Range<UInt64>) -> UInt64? {
        guard range.upperBound - range.lowerBound >= Self.runSize,
            let extent = try? file.extent(at: place, limit: range.upperBound - place), extent.kind == .unallocated
        else { return nil }
        let end = min(range.upperBound, place + extent.length / Self.runSize * Self.runSize)
        return end > place ? end : nil
    }

    /// Which entry of its table is at a byte of it.
    private func entryNumber(at offset: UInt64) -> UInt64 { offset >> UInt64(3 + mapping.entryWordBits) }

    private func fill(_ buffer: inout [UInt8], _ count: Int, at place: UInt64) -> BlockError? {
        if buffer.count < count { buffer = [UInt8](repeating: 0, count: Int(Self.runSize)) }
        do throws(BlockError) {
            try buffer.withMutableBytes { (bytes) throws(BlockError) in
                try bytes.withSlice(0..<count) { (slice) throws(BlockError) in
                    try file.read(into: &slice, at: place, .mayBlock)
                }
            }
            return nil
        } catch { return error }
    }

    /// Counts what a part of a table uses: the bytes `range` of `bytes`, which are at `place` in the file.
    private mutating func count(_ bytes: [UInt8], _ range: Range<Int>, at place: UInt64, _ index: Int) {
        let table = tables[index]
        // What it was not asked for costs nothing.
        let mapper = isFirstPass && table.isActive ? observer : nil
        let firstCluster = clusters(ofEntry: table.activeEntry).lowerBound
        let windows = bytes.withBytes { bytes in
            var windows = (first: UInt64.max, last: UInt64(0))
            for position in stride(from: range.lowerBound, to: range.upperBound, by: 8 << mapping.entryWordBits) {
                let word = bytes.bigEndianWord(at: position)
                let bitmap = mapping.hasSubclusters ? bytes.bigEndianWord(at: position + 8) : 0
                guard word | bitmap != 0 else { continue }
                let entry = place + UInt64(position - range.lowerBound)
                mapper?.activeDisk(says: word, bitmap, of: firstCluster + entryNumber(at: entry - table.offset))
                guard let clusters = count(word, bitmap, at: entry, table) else { continue }
                windows.first = min(windows.first, clusters.first >> UInt64(limits.windowBits))
                windows.last = max(windows.last, clusters.last >> UInt64(limits.windowBits))
            }
            return windows
        }
        guard isFirstPass, windows.first <= windows.last else { return }
        tables[index].firstWindow = min(tables[index].firstWindow, UInt32(clamping: windows.first))
        tables[index].lastWindow = max(tables[index].lastWindow, UInt32(clamping: windows.last))
    }

    /// Counts what one entry uses of the file.
    ///
    /// - Returns: the first and the last cluster; nil when it uses none.
    private mutating func count(
        _ word: UInt64, _ bitmap: UInt64, at place: UInt64, _ table: Qcow2AuditL2
    ) -> (first: UInt64, last: UInt64)? {
        guard word & Self.compressedFlag == 0 else { return countCompressed(word, bitmap, at: place, table) }
        if isFirstPass { checkBits(word, bitmap, at: place) }
        let offset = word & Self.offsetMask
        let isZero = !mapping.hasSubclusters && word & Self.zeroFlag != 0
        let isInDataFile = mapping.hasDataFile
        guard offset != 0 || isInDataFile && !isZero && word & Self.copiedFlag != 0 else { return nil }
        storesData = storesData || !isZero
        if isFirstPass, offset & (mapping.clusterSize - 1) != 0 {
            faults.note(
                .misaligned, at: place,
                "the L2 entry at byte \(place) points to byte \(offset), which is not the start of a cluster")
        }
        guard !isInDataFile else {
            if isFirstPass { checkInDataFile(word, offset, at: place) }
            return nil
        }
        guard bitmap & bitmap >> 32 & 0xFFFF_FFFF == 0 else { return nil }
        guard isInFile(offset, mapping.clusterSize) else {
            noteOutside(offset, at: place)
            return nil
        }
        if isFirstPass, !isZero { checkIsWhole(offset, at: place) }
        if table.isActive { checkCopied(word, offset, at: place, "L2") }
        if isFirstPass, offset == table.offset {
            faults.note(.loop, at: place, "the L2 entry at byte \(place) points to its own table")
        }
        if table.isActive, let observer {
            let end = window.first + UInt64(window.count)
            observer.activeDisk(has: offset >> UInt64(mapping.clusterBits), entryAt: place, window: window.first..<end)
        }
        return reference(offset, mapping.clusterSize, .data, table.weight)
    }

    /// What can be wrong with an entry that is not compressed, wherever it points.
    private mutating func checkBits(_ word: UInt64, _ bitmap: UInt64, at place: UInt64) {
        func name() -> String { "the L2 entry at byte \(place), 0x\(String(word, radix: 16))," }
        if word & Self.reservedBits != 0 {
            faults.note(.invalidEntry, at: place, "\(name()) has reserved bits set")
        }
        if mapping.version < 3, word & Self.zeroFlag != 0 {
            faults.note(.invalidEntry, at: place, "\(name()) is marked as zeros, which version 2 does not know")
        }
        guard bitmap != 0 else { return }
        let isAllocated = word & Self.offsetMask != 0 || mapping.hasDataFile && word & Self.copiedFlag != 0
        if isAllocated, bitmap & bitmap >> 32 & 0xFFFF_FFFF != 0 {
            faults.note(.invalidEntry, at: place, "\(name()) has a subcluster that is both allocated and zero")
        } else if !isAllocated, bitmap & 0xFFFF_FFFF != 0 {
            faults.note(.invalidEntry, at: place, "\(name()) has allocated subclusters, but no cluster")
        }
    }

    /// QEMU encrypts whole clusters: what is missing of one was there. See ``MappedImage``.
    private mutating func checkIsWhole(_ offset: UInt64, at place: UInt64) {
        guard header.encryption != .none, !mapping.hasSubclusters, offset + mapping.clusterSize > file.size else {
            return
        }
        faults.note(
            .outsideFile, at: place,
            "the L2 entry at byte \(place) points to byte \(offset): of that encrypted cluster, the file has only "
                + "\(file.size - offset) bytes")
    }

    /// In a data file there are no reference counts: each cluster is used once.
    private mutating func checkInDataFile(_ word: UInt64, _ offset: UInt64, at place: UInt64) {
        if word & Self.copiedFlag == 0 {
            noteFlag(
                word, at: place,
                "the L2 entry at byte \(place) is not marked as used once, as all clusters of a data file are")
        }
        if let size = dataFileSize, offset >= size {
            faults.note(
                .outsideFile, at: place,
                "the L2 entry at byte \(place) points to byte \(offset), outside the data file's \(size) bytes")
        }
    }

    private mutating func countCompressed(
        _ word: UInt64, _ bitmap: UInt64, at place: UInt64, _ table: Qcow2AuditL2
    ) -> (first: UInt64, last: UInt64)? {
        let entry = Qcow2Entry.cluster(l2Entry: word & ~Self.copiedFlag, mapping)
        if isFirstPass {
            if word & Self.copiedFlag != 0 {
                noteFlag(
                    word, at: place,
                    "the L2 entry at byte \(place) is marked as used once, which compressed clusters never are")
            }
            if case .invalid(let reason) = entry {
                faults.note(.invalidEntry, at: place, "the L2 entry at byte \(place) \(reason)")
            } else if bitmap != 0 {
                faults.note(
                    .invalidEntry, at: place, "the L2 entry at byte \(place) is compressed, but tells of subclusters")
            }
        }
        guard case .compressed(let cluster) = entry else { return nil }
        storesData = true
        if isFirstPass { compressed.note(cluster.offset.bytes) }
        guard bitmap == 0 else { return nil }
        guard isInFile(cluster.offset.bytes, UInt64(cluster.length)) else {
            noteOutside(cluster.offset.bytes, at: place)
            return nil
        }
        return reference(cluster.offset.bytes, UInt64(cluster.length), .compressed, table.weight)
    }

    private mutating func noteOutside(_ offset: UInt64, at place: UInt64) {
        guard isFirstPass else { return }
        faults.note(
            .outsideFile, at: place,
            "the L2 entry at byte \(place) points to byte \(offset), outside the file's \(file.size) bytes")
    }
}
