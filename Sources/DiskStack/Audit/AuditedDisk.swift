// SPDX-License-Identifier: Apache-2.0

package import BlockIO
package import ImageFormats

/// What an audit finds on the disk in an image, as far as no key is needed to read it: LUKS containers that cover it, or lie in
/// its partitions and logical volumes.
package struct AuditedDisk {
    /// Each with its faults and what of it is in the clear.
    package private(set) var containers: [AuditedLayer] = []
    /// Sentences about what could not be looked into.
    package private(set) var unseen: [Sentence] = []

    private var drawsMaps = false

    /// No disk, or nothing on it.
    package init() {}

    /// - Parameters:
    ///   - disk: takes requests of any offset and length.
    ///   - part: what of it is looked at.
    ///   - drawsMaps: containers are drawn, too.
    /// - Throws: ``FormatError``, or ``OpeningError`` when the part is not there.
    package init(_ disk: any BlockDevice, _ part: PartSelection, drawsMaps: Bool = false) throws {
        self.drawsMaps = drawsMaps
        var place = DiskPart(
            exportName: "", noun: "disk", name: "the disk", image: part.image, description: "", device: disk)
        for step in try part.steps(on: disk) { place = try part.part(step, of: place.device, "") }
        guard !takeContainer(place) else { return }
        var places: [LogicalVolumes.Place] = []
        do throws(FormatError) {
            guard let partitions = try part.partitions(of: place.device) else {
                takeVolumes([(place.name, place.device)], part.image)
                return
            }
            for (_, partition) in partitions where !takeContainer(partition) {
                places.append((partition.name, partition.device))
            }
        } catch {
            unseen.append("\(place.name): \(error)")
        }
        takeVolumes(places, part.image)
    }

    /// Of the next container: the first ones are drawn, all of them in as many cells as half a layer has.
    private var mapCells: Int? {
        drawsMaps && containers.count < ImageAudit.drawnContainers
            ? ImageAudit.mapCells / 2 / ImageAudit.drawnContainers : nil
    }

    /// Is the part a container? It is looked into then.
    private mutating func takeContainer(_ part: DiskPart) -> Bool {
        do throws(FormatError) {
            switch try ImageProbe.findLUKS(part.device) {
            case .none, .leftover: return false
            case .encryptedClone: unseen.append("\(part.name): \(ImageProbe.encryptedClone)")
            case .container: containers.append(AuditedLayer(container: part, mapCells: mapCells))
            }
            return true
        } catch {
            unseen.append("\(part.name): \(error)")
            return true
        }
    }

    private mutating func takeVolumes(_ places: [LogicalVolumes.Place], _ image: String) {
        var faults: [Sentence] = []
        let assembly = LVMAssembly(places) { place, error in faults.append("\(place.name): \(error)") }
        unseen += faults + assembly.faults.map(\.sentence)
        for volume in assembly.groups.flatMap(\.volumes) {
            do throws(FormatError) {
                _ = takeContainer(
                    DiskPart(
                        exportName: "", noun: "logical volume", name: "logical volume \(volume.path)", image: image,
                        description: "", device: try volume.disk()))
            } catch {
                unseen.append(error.sentence)
            }
        }
    }
}

extension ImageChain {
    /// The disk of the image, when no key is needed to read it; nil when one is, or when not all files are there.
    package var plainDisk: (any BlockDevice)? {
        guard breakage == nil else { return nil }
        let cache = ImageCache()
        var disk: (any BlockDevice)?
        for link in links.reversed() {
            switch link.kind {
            case .raw: disk = AlignedDevice.lifting(link.source.device)
            case .luks: return nil
            case .qcow(let header):
                guard header.encryption == .none else { return nil }
                disk = AlignedDevice.lifting(
                    QcowImage(file: link.source.device, header: header, cipher: nil, backing: disk, cache: cache))
            case .qcow2(let header):
                guard header.encryption == .none else { return nil }
                disk = AlignedDevice.lifting(
                    Qcow2Image(
                        file: link.source.device, header: header, mapping: header.mapping, cipher: nil,
                        dataFile: link.dataFile?.device,
                        backing: disk, cache: cache))
            }
        }
        return disk
    }
}
