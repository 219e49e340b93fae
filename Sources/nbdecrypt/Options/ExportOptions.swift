// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import DiskStack

extension DiskSelection.Names {
    /// The values of `--exports`, which hold lists.
    init(_ values: [String]) {
        let names = values.flatMap { $0.split(separator: ",").map(String.init) }
        self = names.isEmpty ? .none : names.contains("all") ? .all : .listed(names)
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

    /// Says what is given of it.
    func apply(to options: inout OpeningOptions) {
        if !exports.isEmpty { options.selection.names = DiskSelection.Names(exports) }
        part.apply(to: &options)
        if let snapshot { options.selection.snapshot = snapshot }
        if let logicalVolume = volume.logicalVolume { options.selection.logicalVolume = logicalVolume }
        if !bitmap.isEmpty { options.bitmaps = bitmap }
    }

    /// Is one of the options given that make sense for one image only?
    var isForOneImage: Bool { !bitmap.isEmpty || isPartSelected }

    private var isPartSelected: Bool {
        part.isPart || snapshot != nil || volume.logicalVolume != nil
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
        guard logicalVolume.map(DiskSelection.isLogicalVolume) ?? true else {
            throw ValidationError("--logical-volume takes the names of a volume group and a volume, as in vg0/root.")
        }
    }
}
