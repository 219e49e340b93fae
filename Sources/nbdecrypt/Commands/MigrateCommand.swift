// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import DiskStack
import ImageFormats

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

            \(ExitStatus.explanation)
            """)

    @OptionGroup var image: ImageOptions

    @Argument(help: ArgumentHelp("The new image: a file that does not exist.", valueName: "new"))
    var new: String

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

    @OptionGroup(title: "Files that an image names") var references: ReferenceOptions

    @Flag(name: .long, help: "Copy even if the passphrase of an AES image does not seem to fit.")
    var noPassphraseCheck = false

    @Flag(
        name: .long,
        help:
            "Copy what can be read of an image that is damaged; what cannot is zeros, and is listed. Exit status 2 then."
    )
    var allowDamaged = false

    @Flag(name: .long, inversion: .prefixedNo, help: "Read the copy back and compare.")
    var verify = true

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

    func validate() throws {
        guard !new.isEmpty else { throw ValidationError("The name of the new image is empty.") }
        guard !(newSecret.isStandardInput && secret.readsStandardInput) else {
            throw ValidationError("Standard input can be read only once.")
        }
        guard newSecret.newPassphraseFd.map({ !secret.passphraseFd.contains($0) }) ?? true else {
            throw ValidationError("A descriptor can be read only once: --new-passphrase-fd needs another number.")
        }
    }

    func run() async throws {
        let termination = Termination()
        let log = StandardErrorLog.make(verbosity: verbose)
        let ring = SecretRing(CommandSecrets(secret.places(), termination: termination), log: log.opening)
        let opener = DiskOpener(try options(), ring: ring, log: log.opening)
        let old = try opener.image()
        let format = try format(of: old)
        try NewFile.check(new, against: old)
        guard format.isEncrypted || newSecret.isEmpty else {
            throw Failure(
                .usage, "\(new): \(format.description): it takes no passphrase; leave that out, or say another --to")
        }
        let disks = try opener.disks(of: old)
        let secret = format.isEncrypted ? try newSecret.read(for: new, termination) : nil
        CommandSecrets.warnUnlessLocked(log)
        let report = try await Migration(
            old: old, disk: disks[0], isWhole: !part.isPart && volume.logicalVolume == nil && snapshot == nil,
            target: .init(path: new, format: format, secret: secret, derivationTime: newSecret.iterTime),
            isVerified: verify,
            toleratesUnreadable: allowDamaged, progress: progress, termination: termination, log: log
        ).run()
        try Process.printReport(json ? report.json : report.text)
        guard report.isComplete else {
            throw Failure(
                .incomplete, "\(new): \(report.unreadable) bytes of the disk could not be read, and are zeros")
        }
    }

    private func format(of old: OpenImage) throws(Failure) -> TargetFormat {
        if let format = to ?? TargetFormat.of(fileName: new) { return format }
        switch old.format {
        case .qcow, .qcow2: return .qcow2LUKS
        case .raw, .luks:
            throw Failure(
                .usage,
                "\(new): what the new image is to be cannot be told by its name; say --to luks2, --to qcow2-luks, --to raw "
                    + "or another format")
        }
    }

    private func options() throws -> OpeningOptions {
        var options = OpeningOptions(image.source)
        options.format = image.format
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
