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

    /// Opens the old image, and has it copied. When that fails, or the program is ended, there is no new file.
    ///
    /// - Parameters:
    ///   - progress: how it is told of.
    ///   - replacesPartial: what is under the name of a copy that is not complete is what is left of one.
    ///   - isReady: called with the new file, if it is the only one, and the digest of its disk when it is about to get its name.
    ///   - newSecret: gives the secret of a new image that is encrypted, when the old one is open.
    /// - Throws: ``Failure``.
    func run(
        _ job: MigrationJob, _ progress: ProgressStyle, replacesPartial: Bool = false,
        isReady: (@Sendable (Process.FileIdentity, DiskDigest) throws(Failure) -> Void)? = nil,
        newSecret: (String) throws -> NamedSecret
    ) async throws -> MigrationReport {
        let ring = SecretRing(CommandSecrets(job.secrets, termination: termination), log: log.opening)
        var options = try command.options(of: job.source)
        let old = try DiskOpener(options, ring: ring, log: log.opening).image()
        let format = try format(of: old, job.new)
        let plan = try MigrationSteps(command.scope, old, job.new, format)
        for path in plan.paths { try NewFile.check(path, against: old) }
        guard format.isEncrypted || command.newSecret.isEmpty else {
            throw Failure(
                .usage, "\(job.new): \(format.description): it takes no passphrase; leave that out, or say another --to"
            )
        }
        options.selection.names = plan.selection
        let steps = try plan.steps(DiskOpener(options, ring: ring, log: log.opening).disks(of: old))
        let secret = format.isEncrypted ? try newSecret(job.new) : nil
        CommandSecrets.warnUnlessLocked(log)

        // Whoever ends the program waits until a file is known that is to be removed.
        let files = NewFiles()
        let cleanUp = termination.begin { files.end() }
        var isComplete = false
        defer { if !isComplete { termination.end(cleanUp) } }
        var reports: [MigrationReport] = []
        for step in steps {
            reports.append(
                try await Migration(
                    old: step.old, disk: step.disk, leftover: step.leftover,
                    target: .init(
                        path: step.new, format: format, secret: secret, derivationTime: command.newSecret.iterTime,
                        replacesPartial: replacesPartial, base: step.base),
                    phases: steps.count == 1
                        ? ("copying", "comparing") : ("copying to \(step.new)", "comparing \(step.new)"),
                    isVerified: !command.noVerify, toleratesUnreadable: command.allowDamaged, progress: progress,
                    files: files, isReady: steps.count == 1 ? isReady : nil, log: log
                ).run())
        }
        isComplete = true
        termination.keep(
            cleanUp,
            saying: command.list == nil ? "\(job.new) was complete, and is there; \(old.name) is as it was" : nil)
        return plan.report(reports)
    }

    private func format(of old: OpenImage, _ new: String) throws(Failure) -> TargetFormat {
        guard let format = TargetFormat.chosen(command.to, fileName: new, old: old.format) else {
            throw Failure(
                .usage,
                "\(new): what the new image is to be cannot be told by its name; say --to luks2, --to qcow2-luks, --to raw "
                    + "or another format")
        }
        return format
    }
}
