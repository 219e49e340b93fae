// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// An L2 table, once for all L1 tables that use it.
struct Qcow2AuditL2 {
    /// A multiple of the cluster size, within the file.
    let offset: UInt64
    /// How often L1 tables use it.
    var weight: UInt32
    /// The active disk uses it.
    var isActive: Bool
    /// The last L1 table that uses it.
    var l1: UInt32
    /// The windows that its entries lead to; none: the first is larger than the last.
    var firstWindow: UInt32 = .max
    var lastWindow: UInt32 = 0
    /// Which part of the active disk it is about: the number of its L1 entry.
    var activeEntry: UInt32 = 0

    /// Whether entries may lead to a window.
    func touches(_ window: UInt64) -> Bool {
        let window = UInt32(clamping: window)
        return firstWindow <= window && window <= lastWindow
    }
}

/// Finding and checking L1 tables and the entries in them.
extension Qcow2AuditWalk {
    private static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00
    private static let reservedL1Bits: UInt64 = 0x7F00_0000_0000_01FF
    private static let copiedFlag: UInt64 = 1 << 63

    /// Reads all L1 tables, each place once.
    mutating func findL2Tables() {
        // A table that several snapshots name is an overlap; it is read once all the same.
        var places: [ByteRangeKey: Int] = [:]
        var unique: [Qcow2AuditL1] = []
        for table in l1Tables {
            let key = ByteRangeKey(offset: table.range.offset, length: table.range.length)
            if let index = places[key] {
                unique[index].weight += 1
            } else {
                places[key] = unique.count
                unique.append(table)
            }
        }
        l1Tables = unique
        for (number, l1) in unique.enumerated() {
            forEachPiece(of: l1.range, l1.name) { walk, place, words in
                for (index, word) in words.enumerated() where word != 0 {
                    walk.noteL1Entry(word, at: place + UInt64(index) * 8, l1, UInt32(number))
                }
            }
        }
        mergeTables()
        if tables.count > limits.tableCount { tables.removeLast(tables.count - limits.tableCount) }
    }

    private struct ByteRangeKey: Hashable {
        let offset: UInt64
        let length: UInt64
    }

    private mutating func noteL1Entry(_ word: UInt64, at place: UInt64, _ l1: Qcow2AuditL1, _ number: UInt32) {
        let entry = UInt32(clamping: (place - l1.range.offset) / 8)
        func lacks() { if l1.isActive { observer?.activeDisk(lacks: clusters(ofEntry: entry)) } }
        func name() -> String { "entry \((place - l1.range.offset) / 8) of \(l1.name), at byte \(place)," }
        if word & Self.reservedL1Bits != 0 {
            faults.note(.invalidEntry, at: place, "\(name()) is 0x\(String(word, radix: 16)): reserved bits are set")
        }
        let offset = word & Self.offsetMask
        guard offset != 0 else {
            if word & Self.reservedL1Bits == 0 {
                faults.note(.invalidEntry, at: place, "\(name()) has a flag, but points to no L2 table")
            }
            return
        }
        guard offset % mapping.clusterSize == 0 else {
            faults.note(
                .misaligned, at: place, "\(name()) points to byte \(offset), which is not the start of a cluster")
            return lacks()
        }
        // Unlike data, a table must be there in full.
        guard offset + mapping.clusterSize <= file.size else {
            faults.note(
                .outsideFile, at: place,
                "\(name()) points to an L2 table at byte \(offset), outside the file's \(file.size) bytes")
            return lacks()
        }
        if offset < l1.range.end, offset + mapping.clusterSize > l1.range.offset {
            faults.note(.loop, at: place, "\(name()) points to the L1 table itself")
        }
        if tables.count >= 2 * limits.tableCount {
            mergeTables()
            guard tables.count <= limits.tableCount else {
                return stop("the image has more than \(limits.tableCount) L2 tables")
            }
        }
        var table = Qcow2AuditL2(offset: offset, weight: l1.weight, isActive: l1.isActive, l1: number)
        table.activeEntry = entry
        tables.append(table)
    }

    /// The clusters of the guest that an entry of the active L1 table is about.
    func clusters(ofEntry entry: UInt32) -> Range<UInt64> {
        UInt64(entry) << UInt64(mapping.l2Bits)..<(UInt64(entry) + 1) << UInt64(mapping.l2Bits)
    }

    /// Sorts the tables and makes one of those in the same place.
    private mutating func mergeTables() {
        tables.sort { ($0.offset, $0.l1) < ($1.offset, $1.l1) }
        var kept = 0
        for table in tables {
            guard kept > 0, tables[kept - 1].offset == table.offset else {
                tables[kept] = table
                kept += 1
                continue
            }
            if tables[kept - 1].l1 == table.l1 {
                faults.note(
                    .usedTwice, at: table.offset,
                    "the L2 table at byte \(table.offset) is used more than once by \(l1Tables[Int(table.l1)].name)")
                if table.isActive { observer?.activeDisk(lacks: clusters(ofEntry: table.activeEntry)) }
            }
            if table.isActive, !tables[kept - 1].isActive { tables[kept - 1].activeEntry = table.activeEntry }
            let (sum, overflow) = tables[kept - 1].weight.addingReportingOverflow(table.weight)
            tables[kept - 1].weight = overflow ? .max : sum
            tables[kept - 1].isActive = tables[kept - 1].isActive || table.isActive
            tables[kept - 1].l1 = table.l1
        }
        tables.removeLast(tables.count - kept)
    }

    /// Checks the flags of the active L1 table's entries against the reference counts in the window.
    mutating func checkActiveL1() {
        for l1 in l1Tables where l1.isActive {
            forEachPiece(of: l1.range, l1.name) { walk, place, words in
                for (index, word) in words.enumerated() {
                    let offset = word & Self.offsetMask
                    let size = walk.mapping.clusterSize
                    guard offset != 0, offset % size == 0, offset + size <= walk.file.size else { continue }
                    walk.checkCopied(word, offset, at: place + UInt64(index) * 8, "L1")
                }
            }
        }
    }

    /// QCOW_OFLAG_COPIED must be set when the cluster is used once, and only then.
    @inline(__always)
    mutating func checkCopied(_ word: UInt64, _ offset: UInt64, at place: UInt64, _ table: StaticString) {
        guard let stored = window.storedCount(offset >> UInt64(mapping.clusterBits)),
            stored != Qcow2AuditWindow.unknown
        else { return }
        let isCopied = word & Self.copiedFlag != 0
        guard isCopied != (stored == 1) else { return }
        noteFlag(
            word, at: place,
            "the \(table) entry at byte \(place) is \(isCopied ? "" : "not ")marked as used once, "
                + "but the reference count of its cluster is \(stored)")
    }

    /// Notes that the flag "used once" of an entry is wrong.
    mutating func noteFlag(_ word: UInt64, at place: UInt64, _ sentence: @autoclosure () -> Sentence) {
        faults.note(.copiedFlag, at: place, sentence())
        observer?.flagIsWrong(in: word, at: place)
    }
}
