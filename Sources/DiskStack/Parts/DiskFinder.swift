// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats

/// Finds the disks that are to be served in an image that is open: the guest disk, snapshots, partitions, logical volumes,
/// layers.
struct DiskFinder {
    typealias Disk = OpenDisk

    let options: OpeningOptions
    let opener: ImageOpener
    let source: OpenSource
    let layer: ImageLayer
    let log: OpeningLog

    /// As many as a client can be told of in reasonable time.
    static let maximumCount = 1024

    /// The data of a detached header is a part of the disk; what is in the container is looked for in its plaintext.
    private var selection: DiskSelection {
        options.luksHeader == nil ? options.selection : options.selection.insideContainer
    }

    private var parts: DiskPartOpener {
        DiskPartOpener(opener: opener.containers, selection: places, log: log)
    }

    private var places: PartSelection { PartSelection(options, log, selection) }

    private var volumes: LogicalVolumes {
        LogicalVolumes(parts: parts, image: options.name, log: log)
    }

    /// What is wanted of the default export.
    private var demand: DiskPartOpener.Demand { selection.wantsPlaintext ? .named : .ciphertext }

    /// The default export first.
    /// - Throws: ``FormatError``, or ``OpeningError`` when something that was named is not there.
    func disks() throws -> [Disk] {
        let found = try selection.snapshot.map(snapshot)
        let chosen = Disk(
            name: "", description: found?.description ?? layer.description, device: found?.device ?? layer.disk,
            bitmaps: found == nil ? try bitmaps() : [])
        // A part of the disk is looked for in what is decrypted.
        let plain = try selection.wantsPlaintext || selection.isPart ? decrypted(chosen) : chosen
        let outer = try part(of: plain)
        let main = try selection.logicalVolume.map { try volumes.volume($0, on: outer, demand).named("") } ?? outer
        // A disk of its own may begin at a window.
        let base = selection.isWindow && selection.partition == nil ? outer : plain
        switch selection.names {
        case .none:
            hint(at: base, outer)
            return [main]
        case .all:
            let partitions = try partitions(of: base, .offered)
            let holders = partitions.isEmpty ? [base.place("the disk")] : partitions.map { $0.place() }
            let all =
                try [main] + snapshots() + partitions + volumes.all(in: holders, limit: Self.maximumCount) + layers()
                + ciphertext(chosen, plain, main)
            guard all.count <= Self.maximumCount else {
                throw OpeningError(
                    .usage,
                    "\(options.name) has \(all.count) disks to export, more than \(Self.maximumCount): name some with \(remedy: .exports(nil))"
                )
            }
            return all
        case .listed(let names):
            return try names.map { name in
                if name == "disk" { return main }
                return try named(name, base: base) { ciphertext(chosen, plain, main) }
            }
        case .snapshots: return try [main] + layer.snapshots.map { try decrypted(disk($0)) }
        case .layers: return [main] + layers() + layer.snapshots.map(disk)
        }
    }

    /// The dirty bitmaps that clients are offered: all that are good, or those that somebody insists on.
    private func bitmaps() throws -> [Qcow2Bitmap] {
        guard !options.bitmaps.isEmpty else {
            let refusals = layer.bitmaps.compactMap(\.refusal)
            for refusal in refusals.prefix(8) { log.warning("\(options.name): \(refusal)") }
            if refusals.count > 8 {
                log.warning("\(options.name): \(refusals.count - 8) more dirty bitmaps are not offered either")
            }
            let good = layer.bitmaps.filter { $0.refusal == nil }
            if good.count > Self.maximumCount {
                log.warning(
                    "\(options.name): only \(Self.maximumCount) of \(good.count) dirty bitmaps are offered; name others with \(remedy: .bitmap)"
                )
            }
            return Array(good.prefix(Self.maximumCount))
        }
        return try options.bitmaps.map { name in
            guard let found = layer.bitmaps.first(where: { $0.name == name }) else {
                let names = layer.bitmaps.prefix(20).map(\.name).joined(separator: ", ")
                throw OpeningError(
                    .usage, "\(options.name) has no dirty bitmap \(name); it has \(names.isEmpty ? "none" : names)")
            }
            if let refusal = found.refusal { throw refusal }
            return found
        }
    }

    private func named(_ name: String, base: Disk, ciphertext: () -> [Disk]) throws -> Disk {
        let offered: [Disk]
        switch name.prefix(while: { $0 != "/" }) {
        case "ciphertext": offered = ciphertext()
        case "snapshot": return try decrypted(snapshot(String(name.dropFirst("snapshot/".count))))
        case "partition": offered = try partitions(of: base, .named, only: name)
        case "lv" where DiskSelection.isLogicalVolume(String(name.dropFirst("lv/".count))):
            return try volumes.volume(String(name.dropFirst("lv/".count)), on: base, .named)
        case "layer": offered = layers()
        default: offered = []
        }
        if let found = offered.first(where: { $0.name == name }) { return found }
        let there =
            offered.isEmpty
            ? "disk, snapshot/NAME, partition/N, lv/GROUP/VOLUME, layer/N, ciphertext"
            : offered.map(\.name).joined(separator: ", ")
        throw OpeningError(.usage, "\(options.name) has no export \(name); there may be: \(there)")
    }

    // MARK: Containers

    /// The disk in the LUKS container that a guest's disk holds; the disk itself when it holds none.
    private func decrypted(_ disk: Disk) throws -> Disk {
        // What is in a container or a plain file is served as it is.
        guard layer.format == .qcow2 || layer.format == .qcow else { return disk }
        let part = DiskPart(
            exportName: disk.name, noun: "disk", name: "the guest disk", image: options.name,
            description: disk.description, device: disk.device)
        // A start that cannot be read holds nothing that can be opened; clients may read the rest.
        guard let finding = try? ImageProbe.findLUKS(disk.device), finding != .none else { return disk }
        // Whoever names the format wants what is in it, as it is.
        guard options.format == nil || finding != .container && finding != .encryptedClone else {
            log.warning(
                "the guest disk holds a LUKS container and is taken as it is, as \(remedy: .format(layer.format.rawValue)) says; leave \(remedy: .format(nil)) out to decrypt it"
            )
            return disk
        }
        return try parts.holdsContainer(part) ? parts.disk(in: part, .named) : disk
    }

    /// The guest's view of the container that the default export was decrypted from: its part, or the whole disk.
    private func ciphertext(_ chosen: Disk, _ plain: Disk, _ main: Disk) -> [Disk] {
        let ciphertext = "ciphertext"
        if selection.isPart, let part = main.container {
            return [
                Disk(name: ciphertext, description: "LUKS, not decrypted, in \(part.description)", device: part.device)
            ]
        }
        if layer.format == .luks, options.luksHeader == nil {
            return [Disk(name: ciphertext, description: "LUKS, not decrypted", device: source.device)]
        }
        guard (try? ImageProbe.holdsLUKS(chosen.device)) == true else { return [] }
        return [
            Disk(
                name: ciphertext, description: "LUKS, not decrypted, in \(chosen.description)", device: chosen.device)
        ]
    }

    // MARK: Parts

    /// The part of a disk that the default export is.
    private func part(of disk: Disk) throws -> Disk {
        // A volume is looked for in what is decrypted.
        let demand = selection.logicalVolume == nil ? self.demand : .named
        let steps = try places.steps(on: disk.device)
        return try steps.enumerated().reduce(disk) { disk, next in
            let part = try places.part(next.element, of: disk.device, disk.description)
            if steps == [.window], layer.format == .raw { try parts.checkNotAnImage(part) }
            return try parts.disk(in: part, next.offset == steps.count - 1 ? demand : .named).named("")
        }
    }

    /// - Parameter only: the name of the one that counts; nil: all.
    private func partitions(
        of disk: Disk, _ demand: DiskPartOpener.Demand, only name: String? = nil
    ) throws -> [Disk] {
        let found: [(number: Int, part: DiskPart)]
        do throws(FormatError) { found = try places.partitions(of: disk.device) ?? [] } catch {
            guard demand == .offered else { throw error }
            log.warning("\(options.name): \(error)")
            return []
        }
        return try found.map { _, part in
            name == nil || part.exportName == name ? try parts.disk(in: part, demand) : part.disk
        }
    }

    private func snapshots() throws -> [Disk] {
        // Before each is looked at, and a container on it unlocked: an image can have 65,536 of them.
        guard layer.snapshots.count <= Self.maximumCount else {
            throw OpeningError(
                .usage,
                "\(options.name) has \(layer.snapshots.count) snapshots to export, more than \(Self.maximumCount): name some with \(remedy: .exports(nil))"
            )
        }
        return try layer.snapshots.map { snapshot in
            let disk = disk(snapshot)
            // An older snapshot may have a container with older passphrases.
            do { return try decrypted(disk) } catch let failure as OpeningError where failure.isOfSecret {
                log.warning("\(failure); \(disk.name) is taken as it is")
                return disk
            }
        }
    }

    private func snapshot(_ name: String) throws -> Disk {
        guard
            let found = layer.snapshots.first(where: { $0.name == name || "id:\($0.id)" == name })
                ?? layer.snapshots.first(where: { $0.id == name })
        else {
            let names = layer.snapshots.prefix(20).map(\.name).joined(separator: ", ")
            throw OpeningError(
                .usage, "\(options.name) has no snapshot \(name); it has \(names.isEmpty ? "none" : names)")
        }
        return disk(found)
    }

    /// The disk of a snapshot; a container on it is not decrypted.
    private func disk(_ snapshot: ImageLayer.Snapshot) -> Disk {
        // QEMU allows several of one name, and of none.
        let isUnique = !snapshot.name.isEmpty && layer.snapshots.count { $0.name == snapshot.name } == 1
        return Disk(
            name: "snapshot/\(isUnique ? snapshot.name : "id:\(snapshot.id)")",
            description: "snapshot \(snapshot.name) (id \(snapshot.id)), \(layer.description)",
            device: snapshot.disk)
    }

    private func layers() -> [Disk] {
        guard !layer.below.isEmpty else { return [] }
        return ([layer] + layer.below).enumerated().map { index, layer in
            Disk(name: "layer/\(index)", description: "\(layer.name): \(layer.description)", device: layer.disk)
        }
    }

    /// Whoever serves a whole disk may want what is encrypted on it, or a logical volume.
    ///
    /// - Parameter part: the default export, but for a logical volume on it.
    private func hint(at disk: Disk, _ part: Disk) {
        guard selection.logicalVolume == nil else { return }
        guard selection.partition == nil, let table = try? PartitionTable(disk.device, sectorSize: options.sectorSize)
        else {
            volumes.hint(at: [part.place(selection.partition.map { "partition \($0)" } ?? "the disk")])
            return
        }
        var places: [LogicalVolumes.Place] = []
        defer { volumes.hint(at: places) }
        for partition in table.partitions.prefix(16) {
            let window = WindowDevice(disk.device, partition.range)
            places.append(("partition \(partition.number)", window))
            if (try? ImageProbe.holdsLUKS(window)) == true {
                log.notice(
                    "partition \(partition.number) holds a LUKS container; to have it decrypted, add \(remedy: .partition(partition.number))"
                )
            }
        }
    }
}

extension OpenDisk {
    /// Where a physical volume may be.
    ///
    /// - Parameter name: for messages; nil: from that of the export.
    fileprivate func place(_ name: String? = nil) -> LogicalVolumes.Place {
        (name ?? self.name.replacing("/", with: " "), device)
    }
}
