// SPDX-License-Identifier: Apache-2.0

/// What uses a cluster of the file.
struct Qcow2AuditOwner: OptionSet {
    let rawValue: UInt16

    static let header = Qcow2AuditOwner(rawValue: 1 << 0)
    static let l1Table = Qcow2AuditOwner(rawValue: 1 << 1)
    static let refcountTable = Qcow2AuditOwner(rawValue: 1 << 2)
    static let refcountBlock = Qcow2AuditOwner(rawValue: 1 << 3)
    static let snapshotTable = Qcow2AuditOwner(rawValue: 1 << 4)
    static let luksHeader = Qcow2AuditOwner(rawValue: 1 << 5)
    static let bitmapDirectory = Qcow2AuditOwner(rawValue: 1 << 6)
    static let bitmapTable = Qcow2AuditOwner(rawValue: 1 << 7)
    static let bitmap = Qcow2AuditOwner(rawValue: 1 << 8)
    static let l2Table = Qcow2AuditOwner(rawValue: 1 << 9)
    static let data = Qcow2AuditOwner(rawValue: 1 << 10)
    static let compressed = Qcow2AuditOwner(rawValue: 1 << 11)

    /// Those that may share a cluster with others of their kind: snapshots share tables and data, and several compressed
    /// clusters lie in one of the file.
    static let shareable: Qcow2AuditOwner = [.l2Table, .data, .compressed]

    private static let names = [
        "the header", "an L1 table", "the refcount table", "a refcount block", "the snapshot table", "the LUKS header",
        "the bitmap directory", "a bitmap table", "a bitmap", "an L2 table", "guest data", "compressed guest data",
    ]

    /// E.g. "an L1 table and guest data".
    var description: String {
        let names = Self.names.enumerated().filter { rawValue >> $0.offset & 1 == 1 }.map(\.element)
        return names.count == 1 ? "\(names[0]) twice" : names.joined(separator: " and ")
    }

    /// Whether `count` owners of these kinds cannot use one cluster.
    func areInConflict(count: UInt32) -> Bool {
        count > 1 && (rawValue & (rawValue - 1) != 0 || isDisjoint(with: .shareable))
    }
}

/// The counters for some clusters in a row of the file.
struct Qcow2AuditWindow {
    /// A stored reference count that could not be read.
    static let unknown = UInt32.max

    /// The first cluster.
    private(set) var first: UInt64
    /// How often each cluster is used, at most `UInt32.max`.
    private(set) var users: [UInt32]
    /// By what.
    private(set) var owners: [UInt16]
    /// The reference counts that the image holds, at most one less than ``unknown``.
    private(set) var stored: [UInt32]

    var count: Int { users.count }

    init(first: UInt64, count: Int) {
        self.first = first
        users = [UInt32](repeating: 0, count: count)
        owners = [UInt16](repeating: 0, count: count)
        stored = [UInt32](repeating: 0, count: count)
    }

    /// Starts again with other clusters, in the same memory when there are as many.
    mutating func restart(first: UInt64, count: Int) {
        guard count == self.count else {
            // The old counters go before there are new ones.
            self = Qcow2AuditWindow(first: first, count: 0)
            self = Qcow2AuditWindow(first: first, count: count)
            return
        }
        self.first = first
        for index in 0..<count { users[index] = 0 }
        for index in 0..<count { owners[index] = 0 }
        for index in 0..<count { stored[index] = 0 }
    }

    /// Counts `weight` uses of the clusters from `start` to `end`, of which only those in the window matter.
    @inline(__always)
    mutating func add(_ start: UInt64, _ end: UInt64, _ owner: Qcow2AuditOwner, _ weight: UInt32) {
        guard end >= first else { return }
        let from = start > first ? start - first : 0
        let through = min(end - first, UInt64(count) - 1)
        guard from <= through else { return }
        for index in Int(from)...Int(through) {
            let (sum, overflow) = users[index].addingReportingOverflow(weight)
            users[index] = overflow ? .max : sum
            owners[index] |= owner.rawValue
        }
    }

    /// How many of the clusters from `start` to `end` are in the window.
    func countOfClusters(_ start: UInt64, _ end: UInt64) -> UInt64 {
        guard end >= first, count > 0, start < first + UInt64(count) else { return 0 }
        return min(end, first + UInt64(count) - 1) - max(start, first) + 1
    }

    /// The stored count of a cluster; nil when it is not in the window.
    @inline(__always)
    func storedCount(_ cluster: UInt64) -> UInt32? {
        guard cluster >= first, cluster - first < UInt64(count) else { return nil }
        return stored[Int(cluster - first)]
    }

    mutating func store(_ refcount: UInt32, at index: Int) { stored[index] = refcount }
}
