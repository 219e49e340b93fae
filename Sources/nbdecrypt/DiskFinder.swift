// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Logging

/// Finds the disks that are to be served in an image that is open: the guest disk, snapshots, partitions, layers.
struct DiskFinder {
    typealias Disk = DeviceStack.Disk

    let options: DeviceStack.Options
    let opener: ImageOpener
    let file: FileDevice
    let layer: ImageLayer
    let log: Logger

    /// As many as a client can be told of in reasonable time.
    static let maximumCount = 1024

    private var selection: ExportSelection { options.selection }

    /// The default export first.
    /// - Throws: ``FormatError``, or ``Failure`` when something that was named is not there.
    func disks() throws -> [Disk] {
        let found = try selection.snapshot.map(snapshot)
        let chosen = Disk(
            name: "", description: found?.description ?? layer.description, device: found?.device ?? layer.disk,
            bitmaps: found == nil ? try bitmaps() : [])
        let plain = try selection.wantsPlaintext ? decrypted(chosen) : chosen
        let main = try part(of: plain)
        switch selection.names {
        case .none:
            hint(at: plain)
            return [main]
        case .all:
            let all =
                try [main] + snapshots() + partitions(of: plain, required: false) + layers() + ciphertext(chosen, plain)
            guard all.count <= Self.maximumCount else {
                throw Failure(
                    .usage,
                    "\(options.path) has \(all.count) disks to export, more than \(Self.maximumCount): name some with --exports"
                )
            }
            return all
        case .listed(let names):
            return try names.map { try named($0, main: main, chosen: chosen, plain: plain) }
        }
    }

    /// The dirty bitmaps that clients are offered: all that are good, or those that somebody insists on.
    private func bitmaps() throws -> [Qcow2Bitmap] {
        guard !options.bitmaps.isEmpty else {
            let refusals = layer.bitmaps.compactMap(\.refusal)
            for refusal in refusals.prefix(8) { log.warning("\(options.path): \(refusal)") }
            if refusals.count > 8 {
                log.warning("\(options.path): \(refusals.count - 8) more dirty bitmaps are not offered either")
            }
            let good = layer.bitmaps.filter { $0.refusal == nil }
            if good.count > Self.maximumCount {
                log.warning(
                    "\(options.path): only \(Self.maximumCount) of \(good.count) dirty bitmaps are offered; name others with --bitmap"
                )
            }
            return Array(good.prefix(Self.maximumCount))
        }
        return try options.bitmaps.map { name in
            guard let found = layer.bitmaps.first(where: { $0.name == name }) else {
                let names = layer.bitmaps.prefix(20).map(\.name).joined(separator: ", ")
                throw Failure(
                    .usage, "\(options.path) has no dirty bitmap \(name); it has \(names.isEmpty ? "none" : names)")
            }
            if let refusal = found.refusal { throw refusal }
            return found
        }
    }

    private func named(_ name: String, main: Disk, chosen: Disk, plain: Disk) throws -> Disk {
        let offered: [Disk]
        switch name.prefix(while: { $0 != "/" }) {
        case "disk" where name == "disk": return main
        case "ciphertext": offered = ciphertext(chosen, plain)
        case "snapshot": return try decrypted(snapshot(String(name.dropFirst("snapshot/".count))))
        case "partition": offered = try partitions(of: plain, required: true)
        case "layer": offered = layers()
        default: offered = []
        }
        if let found = offered.first(where: { $0.name == name }) { return found }
        let there =
            offered.isEmpty
            ? "disk, snapshot/NAME, partition/N, layer/N, ciphertext" : offered.map(\.name).joined(separator: ", ")
        throw Failure(.usage, "\(options.path) has no export \(name); there may be: \(there)")
    }

    // MARK: Containers

    /// The disk in the LUKS container that a disk holds; the disk itself when it holds none.
    private func decrypted(_ disk: Disk) throws -> Disk {
        // A start that cannot be read holds nothing that can be opened; clients may read the rest. And what is in a container
        // or a plain file is served as it is.
        guard layer.format == .qcow2 || layer.format == .qcow, (try? holdsLUKS(disk.device, "the guest disk")) == true
        else {
            return disk
        }
        // Whoever names the format wants what is in it, as it is.
        guard options.format == nil else {
            log.warning(
                "the guest disk holds a LUKS container and is served as it is, as -f \(layer.format.rawValue) says; leave -f out to decrypt it"
            )
            return disk
        }
        let (device, encryption) = try opener.openContainer(on: disk.device, "the LUKS container in \(options.path)")
        return Disk(name: disk.name, description: "\(encryption), decrypted, in \(disk.description)", device: device)
    }

    /// Is there a container to open? One that something else was written over is told of, and left alone.
    private func holdsLUKS(_ device: any BlockDevice, _ name: String) throws(FormatError) -> Bool {
        switch try ImageProbe.findLUKS(device) {
        case .container: return true
        case .leftover(let contents):
            log.warning(
                "\(options.path): \(name) begins with \(contents), and is served as it is; a second copy of a LUKS2 header is left on it, which is ignored"
            )
            return false
        case .none: return false
        }
    }

    /// The guest's view of a disk that holds a container.
    private func ciphertext(_ chosen: Disk, _ plain: Disk) -> [Disk] {
        if layer.format == .luks, options.luksHeader == nil {
            return [Disk(name: "ciphertext", description: "LUKS, not decrypted", device: file)]
        }
        let holdsLUKS = (try? ImageProbe.holdsLUKS(chosen.device)) ?? false
        guard holdsLUKS else { return [] }
        return [
            Disk(
                name: "ciphertext", description: "LUKS, not decrypted, in \(chosen.description)", device: chosen.device)
        ]
    }

    // MARK: Parts

    /// The part of a disk that the default export is.
    private func part(of disk: Disk) throws -> Disk {
        var disk = disk
        if let number = selection.partition {
            let all = try partitions(of: disk, required: true, only: number)
            guard let found = all.first else {
                let numbers = try PartitionTable(disk.device)?.partitions.map { String($0.number) } ?? []
                throw Failure(
                    .usage,
                    "\(options.path) has no partition \(number); it has \(numbers.isEmpty ? "none" : numbers.joined(separator: ", "))"
                )
            }
            disk = Disk(name: "", description: found.description, device: found.device)
        }
        guard selection.offset != nil || selection.size != nil else { return disk }
        let offset = selection.offset ?? 0
        guard offset < disk.device.size,
            let range = ByteRange(offset: offset, length: selection.size ?? disk.device.size - offset),
            range.fits(disk.device.size)
        else {
            throw Failure(
                .usage, "--offset and --size do not fit the disk of \(disk.device.size) bytes of \(options.path)")
        }
        return Disk(
            name: disk.name, description: "\(range.length) bytes from byte \(offset) of \(disk.description)",
            device: WindowDevice(disk.device, range))
    }

    /// - Parameter required: somebody has asked for them, so that what cannot be read or opened is an error.
    private func partitions(of disk: Disk, required: Bool, only number: Int? = nil) throws -> [Disk] {
        let found: PartitionTable?
        do throws(FormatError) { found = try PartitionTable(disk.device) } catch {
            guard !required else { throw error }
            log.warning("\(options.path): \(error)")
            return []
        }
        guard let table = found else { return [] }
        for warning in table.warnings { log.warning("\(options.path): \(warning)") }
        return try table.partitions.filter { number == nil || $0.number == number }.map { partition in
            let window = WindowDevice(disk.device, partition.range)
            var parts = [partition.typeName ?? "type \(partition.type)"]
            if !partition.name.isEmpty { parts.append("\"\(partition.name)\"") }
            let name = "partition/\(partition.number)"
            let description = parts.joined(separator: ", ")
            guard try holdsLUKS(window, "partition \(partition.number)") else {
                return Disk(name: name, description: description, device: window)
            }
            do {
                let (device, encryption) = try opener.openContainer(
                    on: window, "partition \(partition.number) of \(options.path)", mayAsk: required)
                return Disk(name: name, description: "\(description), \(encryption), decrypted", device: device)
            } catch let failure as Failure where !required && failure.status == .wrongPassphrase {
                log.warning("\(failure); the partition is served as it is")
                return Disk(name: name, description: "\(description), LUKS, not decrypted", device: window)
            }
        }
    }

    private func snapshots() throws -> [Disk] {
        // Before each is looked at, and a container on it unlocked: an image can have 65,536 of them.
        guard layer.snapshots.count <= Self.maximumCount else {
            throw Failure(
                .usage,
                "\(options.path) has \(layer.snapshots.count) snapshots to export, more than \(Self.maximumCount): name some with --exports"
            )
        }
        return try layer.snapshots.map { snapshot in
            let disk = disk(snapshot)
            // An older snapshot may have a container with older passphrases.
            do { return try decrypted(disk) } catch let failure as Failure where failure.status == .wrongPassphrase {
                log.warning("\(failure); \(disk.name) is served as it is")
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
            throw Failure(
                .usage, "\(options.path) has no snapshot \(name); it has \(names.isEmpty ? "none" : names)")
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
            Disk(name: "layer/\(index)", description: "\(layer.path): \(layer.description)", device: layer.disk)
        }
    }

    /// Whoever serves a whole disk may want what is encrypted on it.
    private func hint(at disk: Disk) {
        guard selection.partition == nil, let table = try? PartitionTable(disk.device) else { return }
        for partition in table.partitions.prefix(16) {
            if (try? ImageProbe.holdsLUKS(WindowDevice(disk.device, partition.range))) == true {
                log.notice(
                    "partition \(partition.number) holds a LUKS container; to serve it decrypted, add --partition \(partition.number)"
                )
            }
        }
    }
}
