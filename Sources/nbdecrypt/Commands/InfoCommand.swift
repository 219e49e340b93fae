// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import Crypto
import DiskStack
import ImageFormats

/// `nbdecrypt info`
struct InfoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info",
        abstract: "Show what an image is and how it is encrypted.",
        discussion: """
            Needs no passphrase, changes nothing, and opens no other file that the image names. A LUKS header gets a \
            verdict: what is strong, what is weak, and the commands that improve it. Partitions and the logical volumes of LVM \
            are listed; what is in a container, too, when a passphrase that is tried opens it. With --plan it says what \
            nbdecrypt migrate would do with the image, and opens the files that it names, as that does.

            \(ExitStatus.explanation)
            """)

    @OptionGroup var image: ImageOptions

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    @Flag(
        name: .long,
        help: "Try the given passphrases, or one that you type, and say which keyslots they open; nothing is served.")
    var checkPassphrase = false

    @Flag(
        name: .long,
        help: "Say what migrate would do: what it reads, what the new image takes, what is left behind or in the way.")
    var plan = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "With --plan: what the new image is to be, as for migrate: raw, qcow2, qcow2-luks, luks1 or luks2.",
            valueName: "format"))
    var to: TargetFormat?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "With --plan: the new image; without it, one in the working directory.", valueName: "path"))
    var new: String?

    @Flag(
        name: .long,
        help: "With --plan: each internal snapshot becomes an image of its own as well, as for migrate.")
    var snapshots = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "With --plan: what becomes of backing files, as for migrate: flatten (the default) or keep.",
            valueName: "treatment"))
    var chain: ChainTreatment?

    @OptionGroup(title: "What to look at") var part: PartOptions
    @OptionGroup var volume: LogicalVolumeOptions
    @OptionGroup(title: "Passphrase") var secret: SecretOptions
    @OptionGroup(title: "LUKS") var unlock: UnlockOptions
    @OptionGroup(title: "Files that an image names, with --plan") var references: ReferenceOptions

    func validate() throws {
        guard plan || to == nil && new == nil && !snapshots && chain == nil && references.isEmpty else {
            throw ValidationError(
                "--to, --new, --snapshots, --chain, --references, --allow-reference and --backing-format are for --plan."
            )
        }
        try scope.check(hasHeader: unlock.header != nil)
        try NewFile.checkName(new, "--new", standardOutput: "the report")
        let places = secret.places()
        guard !places.hasOverlaySecret else { throw ValidationError(SecretPlaces.overlayRefusal) }
        guard plan || places.pinnedLayers.allSatisfy({ $0 == 0 }) else {
            throw ValidationError(
                "info tries secrets on the image that is named, which is layer 0: for another layer, name the file of that."
            )
        }
        guard checkPassphrase || places.ofImage.isEmpty || volume.logicalVolume != nil else {
            throw ValidationError(
                "info needs no passphrase, but for a --logical-volume in a LUKS container; to try one, add --check-passphrase."
            )
        }
    }

    func run() throws {
        // Counting the clusters of a large image takes a moment.
        let termination = Termination()
        let log = StandardErrorLog.make(verbosity: 0).opening
        let report: InfoReport
        do {
            let source = try options.sources.open(options.source, SourceAccess(excludesWriters: false))
            let ring = SecretRing(CommandSecrets(secret.places(), termination: termination), log: log)
            var found = try ImageExamination(
                source, format: image.format, luksHeader: options.luksHeader, sources: options.sources,
                plaintext: options.unlock.plaintext, part: PartSelection(options, log), volume: volume.logicalVolume,
                opener: ContainerOpener(ring: ring, options: options.unlock, log: log, mayAsk: checkPassphrase))
            // The secret that has opened a container around the part has been tried.
            if checkPassphrase, found.container.isEncrypted || !found.isPartDecrypted {
                let result = try check(found.container, found.report.disk?.encrypted ?? [], ring, log)
                found.report.passphraseCheck = PassphraseReport(result)
                found.show(decryptedBy: result)
            }
            if plan { found.report.plan = try migrationPlan(checkPassphrase ? ring : nil) }
            report = found.report
        } catch let error as FormatError {
            throw Failure(error, image: image.source.name)
        } catch let error as BlockError {
            throw Failure(.badImage, "\(image.source.name): \(error)")
        }
        try Process.printReport(json ? report.json : report.text)
        if let fault = report.clusters?.firstFault {
            throw Failure(.badImage, "\(image.source.name): \(fault); the image is damaged or not complete")
        }
        if let check = report.passphraseCheck, !check.mayFit {
            guard check.untried.isEmpty else {
                throw Failure(
                    .badImage,
                    "\(image.source.name): none of these opens it, as far as they were tried; "
                        + check.untried.joined(separator: "; "))
            }
            throw Failure(.wrongPassphrase, "\(image.source.name): none of these opens it; \(check.advice ?? "")")
        }
    }

    /// Which images `migrate` would make.
    private var scope: MigrationScope {
        MigrationScope(
            isWhole: !part.isPart && volume.logicalVolume == nil, hasSnapshots: snapshots, chain: chain ?? .flatten)
    }

    /// What of the disk is looked at.
    private var options: OpeningOptions {
        var options = OpeningOptions(image.source)
        part.apply(to: &options)
        unlock.apply(to: &options.unlock)
        options.luksHeader = unlock.header?.source(from: nil)
        return options
    }

    /// What `migrate` would do, told what this command is told.
    ///
    /// - Parameter ring: holds secrets; nil: none are used.
    private func migrationPlan(_ ring: SecretRing?) throws -> MigrationPlan {
        var options = options
        options.format = image.format
        if let logicalVolume = volume.logicalVolume { options.selection.logicalVolume = logicalVolume }
        try references.apply(to: &options)
        let said = [
            image.format.map { Remedy.format($0.rawValue) },
            unlock.header.map { .luksHeader(path: $0.source(from: nil).name) },
        ].compactMap { $0 }
        let inside = volume.logicalVolume.map { [Remedy.logicalVolume($0)] } ?? []
        let part = PartSelection(options, OpeningLog { _ in }).choices
        return MigrationPlan(
            options, scope, to: to, new: new, arguments: (said + part + inside + references.remedies).arguments,
            ring: ring)
    }

    private func check(
        _ container: EncryptedContainer, _ encrypted: [(name: String, choice: Remedy)], _ ring: SecretRing,
        _ log: OpeningLog
    ) throws -> PassphraseCheck {
        switch container {
        case .none:
            let hint = encrypted.first.map { "; \($0.name) holds LUKS: add \(RemedyWording.words($0.choice))" } ?? ""
            throw Failure(.usage, "\(image.source.name) is not encrypted: there is no passphrase to check\(hint)")
        case .legacyAES(let disk):
            try PassphraseCheck(legacyAES: disk, ring: ring, path: image.source.name)
        case .luks(let luks):
            try PassphraseCheck(luks: luks, ring: ring, options: options.unlock, path: image.source.name, log: log)
        }
    }
}
