// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO

/// Which parts of an image are served, and which of them a client gets that asks for none by name.
struct ExportSelection {
    /// Named exports.
    enum Names: Equatable {
        /// The default export alone.
        case none
        case all
        case listed([String])
    }

    var names = Names.none
    /// The default export is this partition instead of the disk.
    var partition: Int?
    /// The default export is the disk of this snapshot, by name or id.
    var snapshot: String?
    /// The default export starts at this byte.
    var offset: UInt64?
    /// The default export has this many bytes.
    var size: UInt64?
    /// The default export is this logical volume, "GROUP/VOLUME", of what the others select.
    var logicalVolume: String?

    /// Does a snapshot have to be found?
    var wantsSnapshots: Bool { snapshot != nil || names.wants("snapshot/") }
    /// Is a LUKS container on the disk needed in decrypted form?
    var wantsPlaintext: Bool { names != .listed(["ciphertext"]) }
    /// Is the default export a window of something?
    var isWindow: Bool { offset != nil || size != nil }
    /// Is the default export a partition or a window, or in one?
    var isPartOfDisk: Bool { partition != nil || isWindow }
    /// Is the default export a part of the disk?
    var isPart: Bool { isPartOfDisk || logicalVolume != nil }

    /// What is left to be selected in the container to which a partition or a window has led.
    var insideContainer: ExportSelection {
        var inside = self
        (inside.partition, inside.offset, inside.size) = (nil, nil, nil)
        return inside
    }
}

extension ExportSelection.Names {
    /// The values of `--exports`, which hold lists.
    init(_ values: [String]) {
        let names = values.flatMap { $0.split(separator: ",").map(String.init) }
        self = names.isEmpty ? .none : names.contains("all") ? .all : .listed(names)
    }

    /// May a name with this beginning be offered?
    func wants(_ prefix: String) -> Bool {
        switch self {
        case .none: false
        case .all: true
        case .listed(let names): names.contains { $0.hasPrefix(prefix) }
        }
    }
}

/// The options that say which parts of an image are served.
struct ExportOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            Offer these exports: "all", or a list of disk, snapshot/NAME, partition/N, lv/GROUP/VOLUME, layer/N and \
            ciphertext, with commas between them. Can be repeated.
            """, valueName: "list"))
    var exports: [String] = []

    @OptionGroup var part: PartOptions

    @OptionGroup var volume: LogicalVolumeOptions

    @Option(
        name: .long,
        help: ArgumentHelp("Serve the disk of this internal snapshot, by its name or id.", valueName: "name"))
    var snapshot: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            Offer this dirty bitmap of a qcow2 image, and no others; without it, all that are consistent. Can be repeated.
            """, valueName: "name"))
    var bitmap: [String] = []

    func validate() throws {
        guard bitmap.isEmpty || !isPartSelected else {
            throw ValidationError("--bitmap is for the whole disk: bitmaps do not fit a part of it or a snapshot.")
        }
    }

    var selection: ExportSelection {
        ExportSelection(
            names: ExportSelection.Names(exports), partition: part.partition, snapshot: snapshot,
            offset: part.offset?.bytes, size: part.size?.bytes, logicalVolume: logicalVolume)
    }

    var logicalVolume: String? { volume.logicalVolume }

    /// Is one of the options given that make sense for one image only?
    var isForOneImage: Bool { !bitmap.isEmpty || isPartSelected }

    private var isPartSelected: Bool {
        part.isPart || snapshot != nil || logicalVolume != nil
    }
}

/// The option that names a logical volume, the same for all commands.
struct LogicalVolumeOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            Take this logical volume of LVM, decrypted if it holds LUKS. Its physical volumes may be the disk or partitions \
            of it, in LUKS containers too.
            """, valueName: "group/volume"))
    var logicalVolume: String?

    func validate() throws {
        guard logicalVolume.map(Self.isLogicalVolume) ?? true else {
            throw ValidationError("--logical-volume takes the names of a volume group and a volume, as in vg0/root.")
        }
    }

    /// Has the text the form "GROUP/VOLUME"?
    static func isLogicalVolume(_ text: String) -> Bool {
        let names = text.split(separator: "/", omittingEmptySubsequences: false)
        return names.count == 2 && names.allSatisfy { !$0.isEmpty }
    }
}
