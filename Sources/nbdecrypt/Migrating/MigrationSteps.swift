// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import FoundationEssentials
import ImageFormats
import SystemPackage

/// Which images are made of an old one: those of its backing files and snapshots, if they are wanted, and at the end that of its
/// disk, so that this one has its name only when all are complete.
struct MigrationSteps {
    /// One of them.
    struct Step {
        /// What is copied is in it, for people.
        let old: String
        let disk: OpenDisk
        /// The path of the new image.
        let new: String
        /// What that stands on; nil: it holds the whole disk.
        let base: NewBase?
        /// What is of no use any more afterwards.
        let leftover: [String]
    }

    private let old: OpenImage
    private let new: String
    /// All of the old image is copied, but for snapshots.
    private let isWhole: Bool
    /// Those that are copied; nil when nobody has asked.
    private let snapshots: [Qcow2Snapshot]?
    /// The paths of the new images of the backing files, the nearest first; nil when nobody has asked.
    private let backingPaths: [String]?
    private let snapshotPaths: [String]

    /// As many as are copied by one command.
    private static let mostSnapshots = 1024

    /// - Throws: ``Failure`` when the new images could not be what is wanted; ``OpeningError`` when the old one is damaged.
    init(_ scope: MigrationScope, _ old: OpenImage, _ new: String, _ format: TargetFormat) throws {
        self.old = old
        self.new = new
        isWhole = scope.isWhole
        let names = NewNames(new)
        guard scope.chain == .flatten || format.hasBackingFiles else {
            throw Failure(
                .usage,
                "\(new): \(format.description): such an image stands on no other; say --to qcow2-luks or --to qcow2, or leave "
                    + "out --chain keep")
        }
        backingPaths =
            scope.chain == .keep ? old.layers.indices.dropFirst().map { names.backingFile($0) } : nil
        guard scope.hasSnapshots else {
            (snapshots, snapshotPaths) = (nil, [])
            return
        }
        guard old.snapshotCount <= Self.mostSnapshots else {
            throw Failure(
                .usage,
                "\(old.name) has \(old.snapshotCount) snapshots, and --snapshots copies up to \(Self.mostSnapshots); copy those "
                    + "that are wanted with --snapshot NAME, one by one")
        }
        let found = try old.snapshots()
        snapshots = found
        snapshotPaths = found.enumerated().map { names.snapshot($0 + 1, named: $1.name) }
    }

    /// How many of the snapshots that are copied hold the state of a machine, which is not.
    var stateCount: Int { (snapshots ?? []).count { $0.vmStateSize > 0 } }

    /// Of all new images.
    var paths: [String] { (backingPaths ?? []) + snapshotPaths + [new] }

    /// Do the new images stand on each other?
    private var isChain: Bool { !(backingPaths ?? []).isEmpty }

    /// Which disks of the old image are needed besides that which is copied by default.
    var selection: DiskSelection.Names {
        let hasSnapshots = !snapshotPaths.isEmpty
        return isChain ? .layers(withSnapshots: hasSnapshots) : hasSnapshots ? .snapshots : .none
    }

    /// What is done, in order.
    ///
    /// - Parameter disks: those of ``selection``.
    /// - Throws: ``Failure`` when the new images could not stand on each other.
    func steps(_ disks: [OpenDisk]) throws(Failure) -> [Step] {
        let layers = isChain ? Array(disks[1...old.layers.count]) : []
        if isChain { try check(layers, disks[0]) }
        let below = layers.indices.dropFirst().reversed().map { number in
            Step(
                old: old.layers[number].name, disk: layers[number], new: backingPaths?[number - 1] ?? "",
                base: self.base(of: number), leftover: [])
        }
        let base = isChain ? self.base(of: 0) : nil
        let snapshots = zip(disks.dropFirst(1 + layers.count), snapshotPaths).map { disk, path in
            Step(old: old.name, disk: disk, new: path, base: base, leftover: [])
        }
        return below + snapshots + [
            Step(old: old.name, disk: disks[0], new: new, base: base, leftover: leftover)
        ]
    }

    private func base(of layer: Int) -> NewBase? {
        let paths = Array((backingPaths ?? []).dropFirst(layer))
        guard !paths.isEmpty, let size = old.layers[layer].clusterSize else { return nil }
        return NewBase(paths: paths, clusterSize: size, hasSubclusters: old.layers[layer].hasSubclusters)
    }

    private func check(_ layers: [OpenDisk], _ disk: OpenDisk) throws(Failure) {
        let advice = "leave out --chain keep to copy the disk as one image"
        guard layers[0].device === disk.device else {
            throw Failure(
                .usage,
                "\(old.name): its disk holds a LUKS container, which is decrypted as a whole: what of it is in which layer does "
                    + "not become images; \(advice), or add --format \(old.format.rawValue) to leave the container as it is"
            )
        }
        for (layer, disk) in zip(old.layers, layers) where disk.device.size == 0 || disk.device.size % 512 != 0 {
            throw Failure(
                .usage,
                "\(layer.name): the disk has \(disk.device.size) bytes, and a layer in qcow2 holds whole sectors of 512; \(advice)"
            )
        }
        guard FilePath(new).lastComponent?.string.hasPrefix(".") != true else {
            throw Failure(
                .usage,
                "\(new): the names of its backing files would begin with a dot as well, and hidden files are not opened as such; "
                    + "name it without a dot, or \(advice)")
        }
        let name = paths.first { ShownText.printable($0, maximumLength: .max) != $0 }
        guard name == nil else {
            throw Failure(
                .usage,
                "\(ShownText.printable(new)): the name is written into images, which takes letters that can be shown; name another one"
            )
        }
    }

    /// What is left of an image that has been copied as a whole.
    private var leftover: [String] {
        guard isWhole, !old.isFar else { return [] }
        let files = old.files.map(\.name)
        let attributes = files.first.flatMap { try? FileManager.default.attributesOfItem(atPath: $0) }
        return attributes?[.type] as? FileAttributeType == .typeRegular ? files : []
    }

    /// The report on the disk, with those on the others in it.
    ///
    /// - Parameter reports: on each step.
    func report(_ reports: [MigrationReport]) -> MigrationReport {
        var report = reports[reports.count - 1]
        let below = backingPaths?.count ?? 0
        report.backingFiles = backingPaths.map { _ in reports.prefix(below).reversed() }
        report.snapshots = snapshots.map { snapshots in
            zip(snapshots, reports.dropFirst(below)).map { MigratedSnapshot($0, $1) }
        }
        report.leftOutSnapshots = snapshots == nil && isWhole ? old.snapshotCount : 0
        return report
    }
}
