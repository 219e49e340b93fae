// SPDX-License-Identifier: Apache-2.0

/// Which disks of an image are wanted, and which of them is the default one.
public struct DiskSelection {
    /// Disks besides the default one, by name.
    public enum Names: Equatable, Sendable {
        /// The default disk alone.
        case none
        /// Every disk in the image.
        case all
        /// Of disk, snapshot/NAME, partition/N, lv/GROUP/VOLUME, layer/N and ciphertext.
        case listed([String])
        /// The disk of every snapshot, in the order of the image.
        case snapshots
        /// The disk of every image of the chain, the top first, and of every snapshot if they are wanted; as they are: a LUKS
        /// container on one is not decrypted.
        case layers(withSnapshots: Bool)
    }

    /// Disks besides the default one.
    public var names = Names.none
    /// The default disk is this partition instead of the whole.
    public var partition: Int?
    /// The default disk is that of this snapshot, by name or id.
    public var snapshot: String?
    /// The default disk starts at this byte.
    public var offset: UInt64?
    /// The default disk has this many bytes.
    public var size: UInt64?
    /// The default disk is this logical volume, "GROUP/VOLUME", of what the others select.
    public var logicalVolume: String?

    /// The whole disk.
    public init() {}

    /// Does a snapshot have to be found?
    var wantsSnapshots: Bool { snapshot != nil || names.wants("snapshot/") }
    /// Is a LUKS container on the disk needed in decrypted form?
    var wantsPlaintext: Bool { names != .listed(["ciphertext"]) }
    /// Is the default disk a window of something?
    var isWindow: Bool { offset != nil || size != nil }
    /// Is the default disk a partition or a window, or in one?
    var isPartOfDisk: Bool { partition != nil || isWindow }
    /// Is the default disk a part of the whole?
    var isPart: Bool { isPartOfDisk || logicalVolume != nil }

    /// Is the default disk a logical volume?
    package var startsWithVolume: Bool {
        if case .listed(let names) = names, names.first?.hasPrefix("lv/") == true { return true }
        return logicalVolume != nil
    }

    /// What is left to be selected in the container to which a partition or a window has led.
    var insideContainer: DiskSelection {
        var inside = self
        (inside.partition, inside.offset, inside.size) = (nil, nil, nil)
        return inside
    }

    /// Has the text the form "GROUP/VOLUME"?
    package static func isLogicalVolume(_ text: String) -> Bool {
        let names = text.split(separator: "/", omittingEmptySubsequences: false)
        return names.count == 2 && names.allSatisfy { !$0.isEmpty }
    }
}

extension DiskSelection.Names {
    /// May a name with this beginning be offered?
    func wants(_ prefix: String) -> Bool {
        switch self {
        case .none: false
        case .all: true
        case .listed(let names): names.contains { $0.hasPrefix(prefix) }
        case .snapshots: prefix == "snapshot/"
        case .layers(let withSnapshots): prefix == "layer/" || withSnapshots && prefix == "snapshot/"
        }
    }
}
