// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import DiskStack

/// `nbdecrypt migrate`
struct MigrateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate",
        abstract: "Copy a disk into a new image, and prove that all of it is there.",
        discussion: """
            Opens what serve opens, has qemu-img or cryptsetup make the new image, copies the disk into it, opens the new image \
            with its secret, reads all of it back and compares. Only then does it get its name. Nothing is overwritten, and \
            the old image stays as it is.

              nbdecrypt migrate old.qcow2 new.qcow2

            With --list the exit status is how many images were not copied as a whole, 63 for more.

            \(ExitStatus.explanation)
            """)

    @Argument(help: ArgumentHelp("The image file or block device.", valueName: "image"))
    var image: String?

    @Argument(help: ArgumentHelp("The new image: a file that does not exist.", valueName: "new"))
    var new: String?

    @OptionGroup var said: FormatOptions

    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            What the new image is: raw, qcow2, qcow2-luks, luks1 or luks2. Without it, what its name says (.raw, .luks1, \
            .luks2), or else qcow2-luks for what is in qcow2.
            """, valueName: "format"))
    var to: TargetFormat?

    @OptionGroup(title: "Passphrase of the new image") var newSecret: NewSecretOptions
    @OptionGroup(title: "Passphrase of the old image") var secret: SecretOptions
    @OptionGroup(title: "LUKS") var unlock: UnlockOptions
    @OptionGroup(title: "What to copy of an image") var part: PartOptions
    @OptionGroup var volume: LogicalVolumeOptions

    @Option(
        name: .long,
        help: ArgumentHelp("Copy the disk of this internal snapshot, by its name or id.", valueName: "name"))
    var snapshot: String?

    @Flag(
        name: .long,
        help: ArgumentHelp(
            """
            Copy each internal snapshot of a qcow2 image as well, into an image of its own: called as the new one, with \
            .snapshot-NUMBER-NAME before the extension.
            """))
    var snapshots = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            What becomes of backing files: flatten (one new image has the whole disk) or keep (each gets a new image of its \
            own, called as the new one with .backing-NUMBER before the extension, and the new ones stand on each other).
            """, valueName: "treatment"))
    var chain = ChainTreatment.flatten

    @OptionGroup(title: "Files that an image names") var references: ReferenceOptions

    @Flag(name: .long, help: "Copy even if the passphrase of an AES image does not seem to fit.")
    var noPassphraseCheck = false

    @Flag(
        name: .long,
        help:
            "Copy what can be read of an image that is damaged; what cannot is zeros, and is listed. Exit status 2 then."
    )
    var allowDamaged = false

    @Flag(name: .long, help: "Do not read the copy back and compare.")
    var noVerify = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How to tell how far it is: auto, map (of the disk, on a terminal), lines, json or none.",
            valueName: "style"))
    var progress = ProgressStyle.auto

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    @Flag(name: .shortAndLong, help: "Say more; twice: also how it is done.")
    var verbose: Int

    @Option(
        name: .long,
        help: ArgumentHelp(
            """
            Copy the images that a text lists, one in a line, behind a tab where its secret is (passphrase-file:PATH, \
            key-file:PATH or raw-key-file:PATH). "-" is standard input.
            """, valueName: "path"))
    var list: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "With --list: where the new images go, with a record of those that are complete, which a second run leaves out.",
            valueName: "path"))
    var outputDir: String?

    @Option(name: .long, help: ArgumentHelp("With --list: how many are copied at the same time.", valueName: "n"))
    var jobs = 1

    func validate() throws {
        try list == nil ? validateOne() : validateList()
        guard !secret.places().hasOverlaySecret else { throw ValidationError(SecretPlaces.overlayRefusal) }
        guard !(newSecret.isStandardInput && secret.readsStandardInput) else {
            throw ValidationError("Standard input can be read only once.")
        }
        guard newSecret.descriptor.map({ !secret.descriptors.contains($0) }) ?? true else {
            throw ValidationError("A descriptor can be read only once: --new-passphrase-fd needs another number.")
        }
    }

    private func validateOne() throws {
        guard let image, !image.isEmpty, let new, !new.isEmpty else {
            throw ValidationError("It takes the old image and the name of the new one, or --list.")
        }
        guard new != "-" else {
            throw ValidationError(
                "A new image is a file: it is read back, which standard output cannot be. Write ./- for a file of that name; `serve --run` copies to a pipe."
            )
        }
        guard case .file = ImageSource(new) else {
            throw ValidationError(
                "\(ShownText.printable(new, maximumLength: 255)): what is before the colon would be a protocol, and a new image is a file; for a file of this name write ./ before it."
            )
        }
        guard outputDir == nil, jobs == 1 else {
            throw ValidationError("--output-dir and --jobs are for --list; the new image is named behind the old one.")
        }
        try scope.check(hasHeader: unlock.header != nil)
    }

    private func validateList() throws {
        guard image == nil else {
            throw ValidationError("With --list, the images are those of the text; name none beside it.")
        }
        guard to != nil, outputDir?.isEmpty == false else {
            throw ValidationError("--list takes --output-dir DIR and --to FORMAT as well.")
        }
        guard isWhole, unlock.header == nil else {
            throw ValidationError(
                "--partition, --logical-volume, --snapshot, --offset, --size and --header are for one image, not for --list."
            )
        }
        guard !scope.hasSeveral else {
            throw ValidationError(
                "--snapshots and --chain keep make several images of one and are not for --list; copy such an image with a command of its own."
            )
        }
        guard (1...64).contains(jobs) else { throw ValidationError("--jobs takes a number from 1 to 64.") }
        guard list != "-" || !newSecret.isStandardInput && !secret.readsStandardInput else {
            throw ValidationError("Standard input can be read only once.")
        }
    }

    /// Is the disk copied, rather than a part of it?
    var isWhole: Bool { !part.isPart && volume.logicalVolume == nil && snapshot == nil }

    /// Which images are made of one.
    var scope: MigrationScope { MigrationScope(isWhole: isWhole, hasSnapshots: snapshots, chain: chain) }

    func run() async throws {
        let termination = Termination()
        let log = StandardErrorLog.make(verbosity: verbose)
        let runner = MigrationRunner(command: self, termination: termination, log: log)
        if let list, let outputDir, let to {
            termination.sayAtEnd(
                "complete new images are in \(outputDir), what had begun is removed, and the old images are as they were; the same "
                    + "command goes on there")
            let jobs = try MigrationList(list, directory: outputDir, format: to, common: secret.places()).jobs
            let report = try await MigrationBatch(
                runner: runner, jobs: jobs, record: MigrationRecord(in: outputDir), width: self.jobs
            ).run()
            try Process.printReport(json ? report.json : report.text)
            if report.failureCount > 0 { throw ExitCode(Int32(min(report.failureCount, MigrationBatch.mostCounted))) }
            return
        }
        termination.sayAtEnd("there is no new image, and \(image ?? "") is as it was")
        let job = MigrationJob(source: ImageSource(image ?? ""), new: new ?? "", secrets: secret.places())
        let report = try await runner.run(job, progress) { try newSecret.read(for: $0, termination) }
        try Process.printReport(json ? report.json : report.text)
        guard report.isComplete else { throw report.incompleteness }
    }

    /// What is said of how an image is opened.
    func options(of source: ImageSource) throws -> OpeningOptions {
        var options = OpeningOptions(source)
        options.format = said.format
        part.apply(to: &options)
        if let logicalVolume = volume.logicalVolume { options.selection.logicalVolume = logicalVolume }
        options.selection.snapshot = snapshot
        unlock.apply(to: &options.unlock)
        options.luksHeader = unlock.header?.source(from: nil)
        options.checksPassphrase = !noPassphraseCheck
        options.allowsDamage = allowDamaged
        try references.apply(to: &options)
        return options
    }
}
