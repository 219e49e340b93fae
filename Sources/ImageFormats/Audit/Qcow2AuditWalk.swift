// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// One audit under way.
///
/// First the tables are found: L1 tables, and from them the L2 tables, each of which is then read once, however many L1
/// tables share it. Then the clusters of the file are counted, window by window: see ``Qcow2AuditWindow``.
struct Qcow2AuditWalk {
    /// A part of the file that is metadata.
    struct Area {
        let range: ByteRange
        let owner: Qcow2AuditOwner
        var weight: UInt32 = 1
    }

    let file: any BlockDevice
    let header: Qcow2Header
    let mapping: Qcow2Mapping
    let dataFileSize: UInt64?
    let limits: Qcow2AuditLimits
    /// Of a repair, or of a map.
    var observer: (any Qcow2WalkObserver)?
    /// Clusters that the file has, its last, incomplete one included.
    let fileClusterCount: UInt64

    var faults = AuditFaults()
    var lost = AuditPlaces()
    var compressed = AuditPlaces()
    var storesData = false
    private(set) var incompleteness: String?
    /// In bytes.
    private(set) var workLeft: UInt64

    var areas: [Area] = []
    var l1Tables: [Qcow2AuditL1] = []
    var tables: [Qcow2AuditL2] = []
    var bitmapTables: [ByteRange] = []
    var refcountTable: [UInt64] = []

    var window = Qcow2AuditWindow(first: 0, count: 0)
    /// Faults of entries are told, and windows are found, in the first pass only.
    var isFirstPass = true
    var neededWindows: Set<UInt64> = []
    private var lastNeededWindow: UInt64 = .max
    private var buffer: [UInt8] = []

    init(file: any BlockDevice, header: Qcow2Header, dataFileSize: UInt64?, limits: Qcow2AuditLimits) {
        self.file = file
        self.header = header
        self.mapping = header.mapping
        self.dataFileSize = dataFileSize
        self.limits = limits
        workLeft = limits.work
        fileClusterCount = file.size.units(of: header.clusterSize)
    }

    mutating func run(_ progress: (Double) -> Void) {
        var told = 0.0
        progress(0)
        findAreas()
        findL2Tables()
        let estimate = Double(min(fileClusterCount >> UInt64(limits.windowBits), 64) + 1)
        passWindow(0) { part in Self.tell(part / estimate, &told, progress) }
        isFirstPass = false
        let others = neededWindows.subtracting([0]).sorted()
        for (index, number) in others.enumerated() {
            guard spend(UInt64(10) << UInt64(limits.windowBits)) else { break }
            let total = Double(others.count + 1)
            passWindow(number) { part in Self.tell((Double(index + 1) + part) / total, &told, progress) }
        }
        Self.tell(1, &told, progress)
    }

    private static func tell(_ part: Double, _ told: inout Double, _ progress: (Double) -> Void) {
        guard part > told else { return }
        told = part
        progress(part)
    }

    /// Counts the clusters of one window and compares.
    private mutating func passWindow(_ number: UInt64, _ progress: (Double) -> Void) {
        let first = number << UInt64(limits.windowBits)
        // One cluster more than the file has: the end of compressed data may lie in it.
        let size = min(1 << UInt64(limits.windowBits), fileClusterCount + 1 - first)
        window.restart(first: first, count: Int(size))
        loadRefcounts()
        for area in areas { count(area) }
        countRefcountBlocks()
        countBitmaps()
        checkActiveL1()
        countL2Tables(progress)
        compare()
        observer?.didCount(window, &self)
    }

    /// Counts the clusters of an area; a file that is all holes can name tens of thousands of any size, one over the other.
    private mutating func count(_ area: Area) {
        guard area.range.length > 0 else { return }
        let first = area.range.offset >> UInt64(mapping.clusterBits)
        let last = (area.range.end - 1) >> UInt64(mapping.clusterBits)
        guard spend(Self.workForArea + Self.workForCluster * window.countOfClusters(first, last)) else { return }
        reference(area.range.offset, area.range.length, area.owner, area.weight)
    }

    /// Looking at an area or a table in each pass, in bytes that could be read meanwhile.
    static let workForArea: UInt64 = 32
    /// Changing the counters of a cluster.
    private static let workForCluster: UInt64 = 10

    /// Counts the clusters of bytes that ``isInFile(_:_:)`` says are there; `length` is not 0.
    ///
    /// - Returns: the first and the last cluster.
    @inline(__always) @discardableResult
    mutating func reference(
        _ offset: UInt64, _ length: UInt64, _ owner: Qcow2AuditOwner, _ weight: UInt32
    ) -> (first: UInt64, last: UInt64) {
        let first = offset >> UInt64(mapping.clusterBits)
        let last = (offset + (length - 1)) >> UInt64(mapping.clusterBits)
        if isFirstPass { need(first, last) }
        window.add(first, last, owner, weight)
        return (first, last)
    }

    /// Remembers that there will have to be a pass for these clusters.
    @inline(__always)
    mutating func need(_ first: UInt64, _ last: UInt64) {
        let (from, through) = (first >> UInt64(limits.windowBits), last >> UInt64(limits.windowBits))
        guard from != lastNeededWindow || through != from else { return }
        needWindows(from, through)
    }

    private mutating func needWindows(_ from: UInt64, _ through: UInt64) {
        for number in from...through {
            guard neededWindows.count < limits.windowCount || neededWindows.contains(number) else {
                return stop("what is used of the file is spread over too many places")
            }
            neededWindows.insert(number)
        }
        lastNeededWindow = through
    }

    /// Whether bytes lie within the file. As for QEMU, the last cluster may be incomplete.
    @inline(__always)
    func isInFile(_ offset: UInt64, _ length: UInt64) -> Bool {
        let (end, overflow) = offset.addingReportingOverflow(length)
        return !overflow && offset < file.size && (end <= file.size || end - file.size < mapping.clusterSize)
    }

    // MARK: Bounds

    /// Says that not all is examined; the first reason is kept.
    mutating func stop(_ reason: String) {
        if incompleteness == nil { incompleteness = reason }
    }

    /// - Returns: false when the audit has worked enough.
    mutating func spend(_ work: UInt64) -> Bool {
        guard work <= workLeft else {
            workLeft = 0
            stop("the image asks for more work than an audit may take: \(limits.work >> 20) MiB of tables")
            return false
        }
        workLeft -= work
        return true
    }

    /// Reads a part of a table that lies in the file.
    ///
    /// - Returns: nil when it cannot be read, which has been told, or when there was enough work.
    mutating func read(_ count: Int, at offset: UInt64, _ what: @autoclosure () -> String) -> [UInt8]? {
        guard spend(UInt64(count)) else { return nil }
        do { return try file.read(count: count, at: offset) } catch {
            noteUnreadable(what(), at: offset, error)
            return nil
        }
    }

    mutating func noteUnreadable(_ what: String, at offset: UInt64, _ error: BlockError) {
        if isFirstPass { faults.note(.unreadable, at: offset, "\(what) at byte \(offset): \(error)") }
        stop("a table cannot be read")
    }

    /// Gives out the memory that tables are read into, in exchange for other.
    mutating func swapBuffer(_ other: [UInt8]) -> [UInt8] {
        defer { buffer = other }
        return buffer
    }

    /// Calls `body` with pieces of a table of 64-bit words that lies in the file: the place and the words.
    mutating func forEachPiece(
        of table: ByteRange, _ what: String, _ body: (inout Qcow2AuditWalk, UInt64, [UInt64]) -> Void
    ) {
        let pieceSize: UInt64 = 64 << 10
        var offset = table.offset
        while offset < table.end {
            let count = Int(min(pieceSize, table.end - offset)) / 8
            guard count > 0, let bytes = read(count * 8, at: offset, what) else { return }
            let words = bytes.withBytes { span in (0..<count).map { span.bigEndianWord(at: $0 * 8) } }
            body(&self, offset, words)
            offset += UInt64(count) * 8
        }
    }
}
