// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Examines all metadata of a qcow2 image: who uses which cluster of the file, and do the reference counts agree?
///
/// Tables of the active disk and of all snapshots, reference counts, bitmaps and the LUKS header area are read; guest data
/// is not. Memory is bounded, about 150 MiB, and so is the work, whatever a sparse file claims to hold.
/// Source: qcow2 specification; what counts as damage is what `qemu-img check` calls corruption, and some more.
public struct Qcow2Audit: Sendable {
    /// Everything that cannot be right.
    public let faults: AuditFaults
    /// Host clusters with a reference count higher than the number of their users: space that is wasted.
    public let lostClusterCount: UInt64
    /// Bytes of the file where the first of them are.
    public let lostClusterPlaces: [UInt64]
    /// Entries, of the active disk and all snapshots, whose cluster is stored in compressed form.
    public let compressedClusterCount: UInt64
    /// Bytes of the file where the first of them are.
    public let compressedClusterPlaces: [UInt64]
    /// Some cluster of the guest disk has a place.
    public let storesData: Bool
    /// Why not all was examined; nil when all was. Lost clusters are not looked for then.
    public let incompleteness: String?
    /// What lies where in the file, and on its disk; none unless they were wanted.
    public let maps: [AuditMap]
    /// All was examined.
    public var isComplete: Bool { incompleteness == nil }

    /// How many places of each sort are kept.
    public static let maximumPlaces = 16

    /// Examines an image. Faults are results, not errors.
    ///
    /// - Parameters:
    ///   - file: holds `header`.
    ///   - dataFileSize: the size in bytes of the external data file; nil when there is none or it is not known.
    ///   - mapCells: how many cells each map has at most; nil: no maps are drawn.
    ///   - progress: is told the part that is done, 0 to 1, on the calling thread; it never falls.
    public init(
        file: any BlockDevice, header: Qcow2Header, dataFileSize: UInt64? = nil, mapCells: Int? = nil,
        progress: (Double) -> Void = { _ in }
    ) {
        self.init(
            file: file, header: header, dataFileSize: dataFileSize, mapCells: mapCells, limits: .usual,
            progress: progress)
    }

    init(
        file: any BlockDevice, header: Qcow2Header, dataFileSize: UInt64? = nil, mapCells: Int? = nil,
        limits: Qcow2AuditLimits, progress: (Double) -> Void = { _ in }
    ) {
        var walk = Qcow2AuditWalk(file: file, header: header, dataFileSize: dataFileSize, limits: limits)
        let mapper = mapCells.map {
            Qcow2AuditMapper(file: file, header: header, dataFileSize: dataFileSize, cellCount: $0)
        }
        walk.observer = mapper
        walk.run(progress)
        mapper?.finish(walk)
        maps = mapper.map { [$0.file, $0.disk] } ?? []
        faults = walk.faults
        lostClusterCount = walk.lost.count
        lostClusterPlaces = walk.lost.places
        compressedClusterCount = walk.compressed.count
        compressedClusterPlaces = walk.compressed.places
        storesData = walk.storesData
        incompleteness = walk.incompleteness
    }
}

/// What an audit may use.
struct Qcow2AuditLimits {
    /// Host clusters that are counted at a time, 10 bytes each: log2. More of them take several passes over the tables.
    var windowBits = 23
    /// Different L2 tables that are remembered, 32 bytes each.
    var tableCount = 2 << 20
    /// Bytes that are read, or gone through in memory: seconds to minutes.
    var work: UInt64 = 32 << 30
    /// Windows that anything is in.
    var windowCount = 1 << 16

    static let usual = Qcow2AuditLimits()
}

/// Counts clusters and keeps the first places, each once.
struct AuditPlaces {
    private(set) var count: UInt64 = 0
    private(set) var places: [UInt64] = []

    mutating func note(_ place: UInt64) {
        count += 1
        // Snapshots share clusters.
        if places.count < Qcow2Audit.maximumPlaces, !places.contains(place) { places.append(place) }
    }
}
