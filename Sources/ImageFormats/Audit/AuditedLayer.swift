// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// What an audit found in one file of a chain.
public struct AuditedLayer: Sendable {
    /// As the user knows it, e.g. the path.
    public let name: String
    /// E.g. "qcow2".
    public let format: String
    /// Its guest data is ciphertext, all or a part of it.
    public var isEncrypted: Bool
    /// Sentences about parts of an encrypted container that no cipher protects.
    public var plaintextParts: [String] = []
    /// It holds guest data of its own; an overlay may have none yet.
    public var storesData = true
    /// Everything that cannot be right.
    public var faults = AuditFaults()
    /// Clusters that nothing uses, but that are marked as used: wasted space, not damage.
    public var lostClusterCount: UInt64 = 0
    /// Bytes of the file where the first of them are.
    public var lostClusterPlaces: [UInt64] = []
    /// Clusters of the active disk and of all snapshots that are stored in compressed form; one that they share may count
    /// more than once.
    public var compressedClusterCount: UInt64 = 0
    /// Bytes of the file where the first of them are.
    public var compressedClusterPlaces: [UInt64] = []
    /// The data is in a file of its own that is marked as a raw image.
    public var hasRawDataFile = false
    /// Why not all was examined; nil when all was.
    public var incompleteness: Sentence?
    /// What else the owner should know.
    public var notes: [String] = []
    /// What lies where; none unless they were wanted.
    public var maps: [AuditMap] = []

    /// A layer in which nothing was found.
    public init(name: String, format: String, isEncrypted: Bool) {
        self.name = name
        self.format = format
        self.isEncrypted = isEncrypted
    }

    /// Nothing in it contradicts itself, as far as it was examined.
    public var isSound: Bool { faults.total == 0 }

    /// What ``Qcow2Audit`` found.
    public init(name: String, _ header: Qcow2Header, _ audit: Qcow2Audit) {
        self.init(name: name, format: "qcow2", isEncrypted: header.encryption != .none)
        storesData = audit.storesData
        faults = audit.faults
        lostClusterCount = audit.lostClusterCount
        lostClusterPlaces = audit.lostClusterPlaces
        compressedClusterCount = audit.compressedClusterCount
        compressedClusterPlaces = audit.compressedClusterPlaces
        hasRawDataFile = header.features.contains(.externalDataFile) && header.features.autoclear >> 1 & 1 == 1
        incompleteness = audit.incompleteness.map { Sentence($0) }
        if lostClusterCount > 0 {
            notes.append(
                "\(QEMUImageCommand.text("qemu-img check -r leaks", isEncrypted: isEncrypted)) frees the lost clusters")
        }
        notes += header.marks
        maps = audit.maps
    }
}
