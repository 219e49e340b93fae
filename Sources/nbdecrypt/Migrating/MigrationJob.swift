// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack
import ImageFormats
import Logging

/// A disk that is to be copied, and where to.
struct MigrationJob: Sendable {
    let source: ImageSource
    /// The path of the new image.
    let new: String
    /// Of the old image.
    let secrets: SecretPlaces
}

/// Does jobs as a command says.
struct MigrationRunner: Sendable {
    let command: MigrateCommand
    let termination: Termination
    let log: Logger

    /// Opens the old image, and has it copied.
    ///
    /// - Parameters:
    ///   - progress: how it is told of.
    ///   - replacesPartial: what is under the name of a copy that is not complete is what is left of one.
    ///   - newSecret: gives the secret of a new image that is encrypted, when the old one is open.
    /// - Throws: ``Failure``.
    func run(
        _ job: MigrationJob, _ progress: ProgressStyle, replacesPartial: Bool = false,
        newSecret: (String) throws -> NamedSecret
    ) async throws -> MigrationReport {
        let ring = SecretRing(CommandSecrets(job.secrets, termination: termination), log: log.opening)
        let opener = DiskOpener(try command.options(of: job.source), ring: ring, log: log.opening)
        let old = try opener.image()
        let format = try format(of: old, job.new)
        try NewFile.check(job.new, against: old)
        guard format.isEncrypted || command.newSecret.isEmpty else {
            throw Failure(
                .usage, "\(job.new): \(format.description): it takes no passphrase; leave that out, or say another --to"
            )
        }
        let disks = try opener.disks(of: old)
        let secret = format.isEncrypted ? try newSecret(job.new) : nil
        CommandSecrets.warnUnlessLocked(log)
        return try await Migration(
            old: old, disk: disks[0], isWhole: command.isWhole,
            target: .init(
                path: job.new, format: format, secret: secret, derivationTime: command.newSecret.iterTime,
                replacesPartial: replacesPartial),
            isVerified: !command.noVerify, toleratesUnreadable: command.allowDamaged, progress: progress,
            termination: termination, log: log
        ).run()
    }

    private func format(of old: OpenImage, _ new: String) throws(Failure) -> TargetFormat {
        if let format = command.to ?? TargetFormat.of(fileName: new) { return format }
        switch old.format {
        case .qcow, .qcow2: return .qcow2LUKS
        case .raw, .luks:
            throw Failure(
                .usage,
                "\(new): what the new image is to be cannot be told by its name; say --to luks2, --to qcow2-luks, --to raw "
                    + "or another format")
        }
    }
}
