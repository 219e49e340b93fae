// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import FoundationEssentials
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
    }

    let old: OpenImage
    let disk: OpenDisk
    /// Is it all that the image holds?
    let isWhole: Bool
    let target: Target
    /// Read the copy back.
    let isVerified: Bool
    /// What cannot be read is zeros in the copy.
    let toleratesUnreadable: Bool
    let progress: ProgressStyle
    let termination: Termination
    let log: Logger

    /// Where the new file is known.
    private final class Place: Sendable {
        private struct State {
            var file: NewFile?
            /// The program ends: none is made any more.
            var isOver = false
        }

        private let state = Locked(State())

        /// Makes the file.
        func make(_ target: Target) throws(Failure) -> NewFile {
            try state.withLock { (state) throws(Failure) in
                guard !state.isOver else { throw Failure(.internalError, "\(target.path): interrupted") }
                let file = try NewFile(target.path, replacesPartial: target.replacesPartial)
                state.file = file
                return file
            }
        }

        /// Removes it, unless it is complete, and sees to it that there is none later.
        func end() {
            state.withLock { state in
                state.file?.remove()
                state.isOver = true
            }
        }
    }

    /// Runs all of it. When it fails, or the program is ended, there is no new file.
    /// - Throws: ``Failure``.
    func run() async throws(Failure) -> MigrationReport {
        try NewFile.check(target.path, against: old)
        // Whoever ends the program waits until the file is known that is to be removed.
        let place = Place()
        let cleanUp = termination.begin { place.end() }
        defer { termination.end(cleanUp) }
        let file = try place.make(target)
        let size = disk.device.size
        try await ImageMaker(
            format: target.format, size: size, secret: target.secret?.secret, derivationTime: target.derivationTime
        ).make(file)
        let (copy, amounts) = try copy(to: file)
        var verified: DiskDigest?
        if isVerified { verified = try verify(copy, file) }
        let lost = copy.unreadableRanges
        let files = try await files(in: lost, of: file)
        try file.finish()
        return MigrationReport(
            old: old.name, disk: disk.description, new: target.path, format: target.format, size: size,
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

    /// What is left of an image that has been copied as a whole.
    private var leftover: [String] {
        guard isWhole, !old.isFar else { return [] }
        let files = old.files.map(\.name)
        let attributes = files.first.flatMap { try? FileManager.default.attributesOfItem(atPath: $0) }
        return attributes?[.type] as? FileAttributeType == .typeRegular ? files : []
    }

    private func copy(to file: NewFile) throws(Failure) -> (DiskCopy, CopyProgress.Amounts) {
        let new = try open(file, isWritable: true)
        let progress = DiskProgress("copying", size: disk.device.size, progress)
        defer { progress.end() }
        var options = DiskCopy.Options()
        options.isTargetZero = target.format.isZeroAtFirst
        options.zeroUnit = target.format.allocationUnit
        options.toleratesUnreadable = toleratesUnreadable
        let copy = DiskCopy(from: disk.device, options)
        do { try copy.run(to: new, progress: progress.copy) } catch { throw failure(error) }
        return (copy, progress.copy.total)
    }

    private func verify(_ copy: DiskCopy, _ file: NewFile) throws(Failure) -> DiskDigest {
        let new = try open(file, isWritable: false)
        let progress = DiskProgress("comparing", size: disk.device.size, progress)
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
            return Failure(.badImage, "\(what ?? old.name): at byte \(offset) of the disk: \(error)\(advice)")
        case .writing(let offset, let error):
            let advice = error.code == .noSpace ? "; make room, or name a file on another disk" : ""
            return Failure(.cannotWrite, "\(target.path): at byte \(offset) of the disk: \(error)\(advice)")
        }
    }
}
