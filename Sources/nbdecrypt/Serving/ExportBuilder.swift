// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import Logging
import NBDServer
import SystemPackage

/// Opens all images of a command and gives their disks the names that clients know.
struct ExportBuilder {
    let command: ServeCommand
    let termination: Termination
    let log: Logger

    /// An image and how its exports are called.
    private struct Request {
        /// Before the names of its exports; nil: it is the only one, and they have none.
        let prefix: String?
        let options: OpeningOptions
        let ring: SecretRing
    }

    /// The default export first.
    /// - Throws: ``Failure``.
    func exports() throws -> [Export] {
        let requests = try requests()
        guard command.exportName.isEmpty || requests.allSatisfy({ $0.prefix == nil }) else {
            throw Failure(
                .usage,
                "--export-name is for one image; several have the names of their files, or those that --config says")
        }
        var exports: [Export] = []
        for request in requests {
            let opener = DiskOpener(request.options, ring: request.ring, log: log.opening)
            let image = try opener.image()
            if command.audit { try audit(image, request.options) }
            for disk in try opener.disks(of: image) { exports.append(try export(disk, request)) }
        }
        var names: Set<String> = []
        for export in exports where !names.insert(export.name).inserted {
            throw Failure(
                .usage, "two exports would have the name \(export.name); give the images other names with --config")
        }
        return exports
    }

    /// Refuses an image whose metadata is damaged, and warns of what it leaks.
    private func audit(_ image: OpenImage, _ options: OpeningOptions) throws {
        let report = AuditReport(try ImageAudit(image, options, log: log.opening))
        if report.isOnlyDiskUnseen {
            for sentence in report.notExamined { log.warning("\(sentence)") }
        } else if let failure = report.failure, report.verdict != .leaks {
            throw failure
        }
        for leak in report.leaks { log.warning("\(image.path): \(leak.description)") }
    }

    private func export(_ disk: OpenDisk, _ request: Request) throws -> Export {
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
        return Export(
            name: name, description: description,
            device: command.detectZeroes ? ZeroDetectingDevice(disk.device) : disk.device, bitmaps: disk.bitmaps)
    }

    private func requests() throws -> [Request] {
        guard let config = command.config else {
            let ring = secretRing(command.secret)
            return try command.images.map { path in
                Request(
                    prefix: command.images.count > 1 ? Self.fileName(path) : nil, options: try options(path), ring: ring
                )
            }
        }
        let named = try ServeConfiguration(path: config).images.map { image in
            Request(
                prefix: image.name ?? Self.fileName(image.path), options: image.options(try options(image.path)),
                ring: secretRing(image.secrets ?? command.secret))
        }
        let ring = secretRing(command.secret)
        return try named
            + command.images.map { Request(prefix: Self.fileName($0), options: try options($0), ring: ring) }
    }

    private func secretRing(_ options: SecretOptions) -> SecretRing {
        SecretRing(CommandSecrets(options, termination: termination), log: log.opening)
    }

    private static func fileName(_ path: String) -> String {
        path.split(separator: "/").last.map(String.init) ?? path
    }

    private func options(_ path: String) throws -> OpeningOptions {
        var options = OpeningOptions(path: path)
        options.format = command.said.format
        options.luksHeader = command.unlock.header
        options.unlock = command.unlock.unlock
        options.checksPassphrase = !command.noPassphraseCheck
        options.allowsDamage = command.allowDamaged
        options.sharesWithWriters = command.forceShare
        options.isWritable = command.writable
        options.allowsUnlocked = command.allowUnlocked
        options.references = command.references.policy
        options.formats = try command.references.formats()
        options.selection = command.exports.selection
        options.bitmaps = command.exports.bitmap
        options.sectorSize = command.exports.part.sectorByteCount
        return options
    }
}

extension ServeCommand {
    /// What is served, for people.
    var shownImage: String {
        guard images.count == 1, config == nil, let image = images.first else { return "\(images.count) images" }
        return image
    }
}
