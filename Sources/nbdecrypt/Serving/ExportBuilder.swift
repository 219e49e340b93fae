// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import Logging
import NBDServer

/// Opens all images of a command and gives their disks the names that clients know.
struct ExportBuilder {
    let command: ServeCommand
    let termination: Termination
    let log: Logger
    /// Makes who is told what clients do with the default export, whose size in bytes it is given; nil: nobody is.
    var progress: ((UInt64) -> any ExportObserver)?

    /// An image and how its exports are called.
    private struct Request {
        /// Before the names of its exports; nil: it is the only one, and they have none.
        let prefix: String?
        let treatment: ImageTreatment
        let ring: SecretRing
    }

    /// The default export first, and the commands that bring overlays into their images.
    /// - Throws: ``Failure``.
    func exports() throws -> (exports: [Export], commits: [String]) {
        let requests = try requests()
        guard command.exportName.isEmpty || requests.allSatisfy({ $0.prefix == nil }) else {
            throw Failure(
                .usage,
                "--export-name is for one image; several have the names of their files, or those that --config says")
        }
        var exports: [Export] = []
        var commits: [String] = []
        for request in requests {
            let treatment = request.treatment
            let opener = DiskOpener(treatment.options, ring: request.ring, log: log.opening)
            let image = try opener.image()
            if treatment.isAudited { try audit(image, treatment.options) }
            let disks = try opener.disks(of: image)
            // All disks of an image wait for the same source; files share a lane with each other.
            let depth = disks.map(\.device.depth).max() ?? 1
            let lane = image.isFar ? Lane(name: image.name, width: depth) : nil
            for disk in disks {
                // A map is of one disk: that of the default export.
                exports.append(try export(disk, request, lane, exports.isEmpty ? progress : nil))
            }
            if let commit = OverlayCommit(treatment.options, image) { commits.append(commit.command) }
        }
        var names: Set<String> = []
        for export in exports where !names.insert(export.name).inserted {
            throw Failure(
                .usage, "two exports would have the name \(export.name); give the images other names with --config")
        }
        return (exports, commits)
    }

    /// Refuses an image whose metadata is damaged, and warns of what it leaks.
    private func audit(_ image: OpenImage, _ options: OpeningOptions) throws {
        let report = AuditReport(try ImageAudit(image, options, log: log.opening))
        if report.isOnlyDiskUnseen {
            for sentence in report.notExamined { log.warning("\(sentence)") }
        } else if let failure = report.failure, report.verdict != .leaks {
            throw failure
        }
        for leak in report.leaks { log.warning("\(image.name): \(leak.description)") }
    }

    private func export(
        _ disk: OpenDisk, _ request: Request, _ lane: Lane?, _ progress: ((UInt64) -> any ExportObserver)?
    ) throws -> Export {
        let name =
            switch (request.prefix, disk.name.isEmpty) {
            case (let prefix?, true): prefix
            case (let prefix?, false): "\(prefix)/\(disk.name)"
            case (nil, true): command.exportName
            case (nil, false): disk.name
            }
        guard name.utf8.count <= Server.maximumNameLength else {
            throw Failure(.usage, "an export name would be longer than \(Server.maximumNameLength) bytes; use --config")
        }
        // Names of files are part of it, as long as they are.
        var description = disk.description
        while description.utf8.count > Server.maximumNameLength { description.unicodeScalars.removeLast() }
        // What clients change is not what was copied.
        let hasCoverage = command.hasCoverage && !disk.device.isWritable
        var observers: [any ExportObserver] = []
        if hasCoverage {
            observers.append(Coverage(size: disk.device.size))
            if command.digest != nil { observers.append(ReadDigest(of: disk.device)) }
        }
        if let progress { observers.append(progress(disk.device.size)) }
        return Export(
            name: name, description: description,
            device: request.treatment.detectsZeroes ? ZeroDetectingDevice(disk.device) : disk.device,
            bitmaps: disk.bitmaps, lane: lane, observers: observers)
    }

    private func requests() throws -> [Request] {
        let named = try command.config.map { try entries(of: ServeConfiguration(path: $0)) }
        // What is typed for one of them is tried for the others.
        let ring = secretRing(command.image.secret.places())
        let unnamed = try command.images.map { name in
            Request(
                prefix: named == nil && command.images.count == 1 ? nil : ImageSource(name).lastComponent,
                treatment: try command.treatment(of: ImageSource(name)), ring: ring)
        }
        return (named ?? []) + unnamed
    }

    private func entries(of file: ServeConfiguration) throws -> [Request] {
        try file.images.map { image in
            let treatment = try file.treatment(of: image, command.treatment(of: image.source))
            return Request(
                prefix: image.name ?? image.source.lastComponent, treatment: treatment,
                ring: secretRing(treatment.secrets))
        }
    }

    private func secretRing(_ places: SecretPlaces) -> SecretRing {
        SecretRing(CommandSecrets(places, termination: termination), log: log.opening)
    }
}

extension ReadDigest: ExportObserver {}

extension ServeCommand {
    /// What is served, for people.
    func shownImage(_ exports: [Export]) -> String {
        // What is in a configuration is known by the names that it gives.
        guard config == nil else { return exports.count == 1 ? exports[0].name : "\(exports.count) exports" }
        guard images.count == 1, let image = images.first else { return "\(images.count) images" }
        return ImageSource(image).name
    }
}
