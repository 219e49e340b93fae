// SPDX-License-Identifier: Apache-2.0

package import BlockIO
package import ImageFormats

/// The logical volumes of LVM on a disk: what its physical volumes hold, in whichever of its parts these are.
package struct LogicalVolumes {
    package typealias Disk = OpenDisk

    /// A part in which a physical volume may be, and what it is called in messages.
    package typealias Place = (name: String, device: any BlockDevice)

    let parts: DiskPartOpener
    /// The image, as a person typed it.
    let image: String
    let log: OpeningLog

    /// - Parameters:
    ///   - selection: finds the partitions that may hold physical volumes.
    ///   - opener: opens containers that may.
    package init(_ selection: PartSelection, opener: ContainerOpener) {
        self.init(
            parts: DiskPartOpener(opener: opener, selection: selection, log: opener.log), image: selection.image,
            log: opener.log)
    }

    init(parts: DiskPartOpener, image: String, log: OpeningLog) {
        (self.parts, self.image, self.log) = (parts, image, log)
    }

    /// How many are named in a message.
    private static let mostShown = 10

    /// What the places hold.
    ///
    /// - Throws: ``FormatError`` when a place cannot be read, or when a label is damaged.
    private func assembly(_ places: [Place]) throws(FormatError) -> LVMAssembly {
        try LVMAssembly(places) { (place, error) throws(FormatError) in throw error.naming(place.name) }
    }

    // MARK: One that was named

    /// The logical volume with a name, decrypted when it holds LUKS.
    ///
    /// - Parameters:
    ///   - path: "GROUP/VOLUME".
    ///   - disk: what holds its physical volumes: itself, or in its partitions.
    ///   - demand: of what the volume holds; containers around it are opened in any case.
    /// - Throws: ``FormatError`` for one that cannot be read, or ``OpeningError`` when there is none, or no secret fits.
    func volume(_ path: String, on disk: Disk, _ demand: DiskPartOpener.Demand) throws -> Disk {
        try parts.disk(in: find(path, on: disk.device).part, demand)
    }

    /// The logical volume with a name, as it is.
    ///
    /// - Returns: the volume, and whether a container was opened to find it.
    /// - Throws: as ``volume(_:on:_:)``.
    package func find(_ path: String, on disk: any BlockDevice) throws -> (part: DiskPart, isInContainer: Bool) {
        let (plain, containers) = try places(on: disk)
        let outside = try assembly(plain)
        if let volume = outside.volume(path), containers.isEmpty || (try? volume.disk()) != nil {
            return (try part(volume), false)
        }
        // A group can have physical volumes inside and outside of containers.
        let all = try assembly(plain + open(containers))
        if let volume = all.volume(path) { return (try part(volume), true) }
        if let fault = all.faults.first { throw fault }
        let there = all.groups.flatMap(\.volumes).map(\.path)
        let shown = there.prefix(Self.mostShown).joined(separator: ", ") + (there.count > Self.mostShown ? ", …" : "")
        throw OpeningError(.usage, "\(image) has no logical volume \(path); it has \(there.isEmpty ? "none" : shown)")
    }

    /// Parts that are not encrypted, and LUKS containers that may have a physical volume inside.
    private func places(on disk: any BlockDevice) throws -> (plain: [Place], containers: [DiskPart]) {
        guard let partitions = try parts.selection.partitions(of: disk) else { return ([("the disk", disk)], []) }
        var plain: [Place] = []
        var containers: [DiskPart] = []
        for (_, part) in partitions {
            // A partition that cannot be read is none that is looked for.
            switch try? ImageProbe.findLUKS(part.device) {
            case .container: containers.append(part)
            case .none?, .leftover: plain.append((part.name, part.device))
            default: break
            }
        }
        return (plain, containers)
    }

    /// What is in containers. Of several, those that no secret opens are left out.
    private func open(_ containers: [DiskPart]) throws -> [Place] {
        var opened: [Place] = []
        var refusal: OpeningError?
        for part in containers {
            do {
                let (device, _) = try parts.opener.open(
                    on: part.device, part.fullName, mayAsk: containers.count == 1)
                opened.append((part.name, device))
            } catch let failure as OpeningError where failure.isOfSecret {
                refusal = failure
            } catch let error as FormatError {
                log.warning("\(image): \(error.naming(part.name))")
            }
        }
        if opened.isEmpty, let refusal { throw refusal }
        return opened
    }

    // MARK: All

    /// Every volume that can be read; the others are named in warnings.
    ///
    /// - Parameters:
    ///   - places: the parts of a disk, decrypted where that was possible.
    ///   - limit: how many there may be.
    /// - Throws: ``OpeningError`` when there are more.
    func all(in places: [Place], limit: Int) throws -> [Disk] {
        let assembly = LVMAssembly(places) { place, error in
            if error.code != .unreadable { log.warning("\(image): \(error.naming(place.name))") }
        }
        for fault in assembly.faults { log.warning("\(image): \(fault)") }
        let volumes = assembly.groups.flatMap(\.volumes)
        // Before containers on them are unlocked.
        guard volumes.count <= limit else {
            throw OpeningError(
                .usage,
                "\(image) has \(volumes.count) logical volumes, more than \(limit): name some with \(remedy: .exports(nil))"
            )
        }
        var disks: [Disk] = []
        for volume in volumes {
            do { disks.append(try parts.disk(in: part(volume), .offered)) } catch let error as FormatError {
                log.warning("\(image): \(error)")
            }
        }
        return disks
    }

    private func part(_ volume: LVMLogicalVolume) throws(FormatError) -> DiskPart {
        let name = "logical volume \(volume.path)"
        return DiskPart(
            exportName: "lv/\(volume.path)", noun: "logical volume", name: name, image: image,
            description: "\(volume.type) \(name)", device: try volume.disk())
    }

    // MARK: None

    /// Tells somebody who serves physical volumes as they are how to serve what they hold.
    func hint(at places: [Place]) {
        let assembly = LVMAssembly(places) { place, error in
            guard error.code != .unreadable else { return }
            log.warning("\(image): \(place.name) is an LVM physical volume, but it is damaged: \(error)")
        }
        for fault in assembly.faults { log.warning("\(image): \(fault)") }
        for group in assembly.groups {
            let paths = group.volumes.map(\.path)
            let holders = group.places.joined(separator: ", ")
            let readable = group.volumes.first { (try? $0.disk()) != nil }?.path
            guard let first = readable ?? paths.first else {
                log.notice(
                    "\(holders): LVM physical volume of the volume group \(group.name), which has no logical volumes")
                continue
            }
            let more = paths.count > Self.mostShown ? ", …" : ""
            let others =
                paths.count == 1 ? "" : " (there are: \(paths.prefix(Self.mostShown).joined(separator: ", "))\(more))"
            log.notice(
                "\(holders): LVM physical volume of the volume group \(group.name); to take a logical volume of it, say \(remedy: .logicalVolume(first))\(others)"
            )
        }
    }
}

extension LVMAssembly {
    /// What the physical volumes on some parts of a disk hold.
    ///
    /// - Parameter fault: is told of a part whose label is damaged, or whose start cannot be read.
    package init<Fault: Error>(
        _ places: [LogicalVolumes.Place], fault: (LogicalVolumes.Place, FormatError) throws(Fault) -> Void
    ) throws(Fault) {
        var texts = LVMTexts()
        var found: [LVMPhysicalVolume] = []
        for place in places {
            let result: Result<LVMPhysicalVolume?, FormatError>
            do throws(FormatError) {
                result = .success(try LVMPhysicalVolume(place.device, name: place.name, &texts))
            } catch { result = .failure(error) }
            switch result {
            case .success(let physical?): found.append(physical)
            case .success(nil): break
            case .failure(let error): try fault(place, error)
            }
        }
        self.init(found)
    }

    /// The volume with a name.
    fileprivate func volume(_ path: String) -> LVMLogicalVolume? {
        let names = path.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard names.count == 2, let group = groups.first(where: { $0.name == names[0] }) else { return nil }
        return group.volumes.first { $0.name == names[1] }
    }
}
