// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import Logging
import SystemPackage

/// One disk on its way into a new image: made, copied, read back, and given its name.
struct Migration {
    /// What the new image is to be.
    struct Target {
        let path: String
        let format: TargetFormat
        /// Nil for a format that is not encrypted.
        let secret: NamedSecret?
        /// In milliseconds; nil: what the tool that makes it thinks right.
        let derivationTime: Int?
        /// What is under the name of a copy that is not complete is what is left of one.
        let replacesPartial: Bool
        /// What it stands on; nil: it holds the whole disk.
        let base: NewBase?
    }

    /// What the disk is in, for people.
    let old: String
    let disk: OpenDisk
    /// What is of no use any more when the disk has been copied.
    let leftover: [String]
    let target: Target
    /// What it is told of as.
    let phases: (copying: String, comparing: String)
    /// Read the copy back.
    let isVerified: Bool
    /// What cannot be read is zeros in the copy.
    let toleratesUnreadable: Bool
    let progress: ProgressStyle
    /// Has the new file as long as it is not complete, and longer if others belong to it.
    let files: NewFiles
    /// Called with the new file and the digest of the disk when it is about to get its name, if nothing is lost.
    let isReady: (@Sendable (Process.FileIdentity, DiskDigest) throws(Failure) -> Void)?
    let log: Logger

    /// Runs all of it. When it fails, the new file is still one of ``files``.
    /// - Throws: ``Failure``.
    func run() async throws(Failure) -> MigrationReport {
        let file = try files.make(target.path, replacesPartial: target.replacesPartial)
        let size = disk.device.size
        try await ImageMaker(
            format: target.format, size: size, secret: target.secret?.secret, derivationTime: target.derivationTime,
            base: target.base
        ).make(file)
        let (copy, amounts) = try copy(to: file)
        var verified: DiskDigest?
        if isVerified { verified = try verify(copy, file) }
        let lost = copy.unreadableRanges
        let files = try await files(in: lost, of: file)
        if lost.isEmpty { try isReady?(file.identity, copy.digest) }
        try file.finish()
        return MigrationReport(
            old: old, disk: disk.description, new: target.path, format: target.format, size: size,
            amounts: amounts, digest: copy.digest, digestOfCopy: verified, unreadable: lost, files: files,
            leftover: leftover)
    }

    /// The files of the guest that have lost bytes; nil when nothing is lost.
    private func files(in lost: [ByteRange], of file: NewFile) async throws(Failure) -> LostFiles? {
        guard !lost.isEmpty else { return nil }
        guard target.format == .raw else {
            var files = LostFiles()
            files.notes.append("files are told of a copy with --to raw only, which debugfs can read where it lies")
            return files
        }
        return await FileLookup(disk: try open(file, isWritable: false), file: file.descriptor).files(in: lost)
    }

    private func copy(to file: NewFile) throws(Failure) -> (DiskCopy, CopyProgress.Amounts) {
        let new = try open(file, isWritable: true)
        let progress = DiskProgress(phases.copying, size: disk.device.size, progress)
        defer { progress.end() }
        var options = DiskCopy.Options()
        options.isTargetZero = target.format.isZeroAtFirst
        options.zeroUnit = target.format.allocationUnit
        options.toleratesUnreadable = toleratesUnreadable
        guard target.base != nil else { return try copy(to: new, options, progress) }
        let layer = LayerTarget(of: disk.device, in: new)
        do { try layer.addZeros() } catch { throw failure(.writing(0, error)) }
        // Zeros may hide what is below.
        options.isTargetZero = false
        return try copy(to: layer, options, progress)
    }

    private func copy(
        to new: any BlockDevice, _ options: DiskCopy.Options, _ progress: DiskProgress
    ) throws(Failure) -> (DiskCopy, CopyProgress.Amounts) {
        let copy = DiskCopy(from: disk.device, options)
        do { try copy.run(to: new, progress: progress.copy) } catch { throw failure(error) }
        return (copy, progress.copy.total)
    }

    private func verify(_ copy: DiskCopy, _ file: NewFile) throws(Failure) -> DiskDigest {
        let new = try open(file, isWritable: false)
        let progress = DiskProgress(phases.comparing, size: disk.device.size, progress)
        defer { progress.end() }
        let result: (digest: DiskDigest, difference: ByteRange?)
        do { result = try copy.verify(new, progress: progress.copy) } catch {
            throw failure(error, reading: "the copy")
        }
        if let place = result.difference {
            throw Failure(
                .cannotWrite,
                "\(target.path): the copy is not the same as the disk: \(place.length) bytes at \(place.offset) are others; it "
                    + "has been removed. Check the memory and the disk of this machine, and copy again")
        }
        return result.digest
    }

    /// Opens the new image as anybody does who has the secret.
    private func open(_ file: NewFile, isWritable: Bool) throws(Failure) -> any BlockDevice {
        var options = OpeningOptions(.file(FilePath(file.partialPath)))
        options.format = target.format.imageFormat
        options.isWritable = isWritable
        // Where there are no locks, the name that nobody else knows has to do.
        options.allowsUnlocked = isWritable
        if let base = target.base { options.references = base.references }
        let disks: [OpenDisk]
        do {
            disks = try DiskOpener(options, secrets: GivenSecrets(target.secret.map { [$0] } ?? [])) { [log] event in
                // Nobody has to be told twice how a container is opened that was made a moment ago.
                log.log(level: event.kind == .warning ? .warning : .debug, "\(event.sentence.worded)")
            }.disks()
        } catch { throw Failure(error) }
        guard let new = disks.first?.device, new.size == disk.device.size else {
            throw Failure(
                .internalError,
                "\(target.path): the new image has a disk of \(disks.first?.device.size ?? 0) bytes, not \(disk.device.size)"
            )
        }
        return new
    }

    private func failure(_ error: DiskCopy.Failure, reading what: String? = nil) -> Failure {
        switch error {
        case .reading(let offset, let error):
            let advice =
                what == nil && (error.code == .inputOutput || error.code == .damaged)
                ? "; add --allow-damaged to copy what can be read, and to be told what is lost" : ""
            return Failure(.badImage, "\(what ?? old): at byte \(offset) of the disk: \(error)\(advice)")
        case .writing(let offset, let error):
            let advice = error.code == .noSpace ? "; make room, or name a file on another disk" : ""
            return Failure(.cannotWrite, "\(target.path): at byte \(offset) of the disk: \(error)\(advice)")
        }
    }
}
