// SPDX-License-Identifier: Apache-2.0

import BlockIO
import DiskStack

/// What `nbdecrypt migrate` has done.
struct MigrationReport: Report {
    let old: String
    let new: String
    /// Of the new image.
    let format: String
    /// In bytes.
    let size: UInt64
    /// Bytes that were copied.
    let data: UInt64
    /// Bytes that are zeros, and take no space where the format can leave them out.
    let zeros: UInt64
    /// Bytes that could not be read, and are zeros in the copy.
    let unreadable: UInt64
    let unreadableRanges: [ReportedRange]
    /// Which files of the guest these bytes are of; nil when all could be read.
    let lostFiles: LostFiles?
    /// Of the disk as it was read.
    let digest: String
    /// Of the copy as it was read back; nil when it was not.
    let digestOfCopy: String?
    /// Bytes that are hashed at once.
    let digestBlockSize: UInt64
    /// The copies of the files that the old image stands on, the nearest first; nil when nobody has asked.
    var backingFiles: [MigrationReport]?
    /// The copies of its internal snapshots; nil when nobody has asked.
    var snapshots: [MigratedSnapshot]?
    /// How many internal snapshots nobody has asked for.
    var leftOutSnapshots = 0
    private let disk: String
    private let target: TargetFormat
    /// The files of the old image that nobody needs any more, the image itself first; none when only a part was copied.
    private let leftover: [String]

    private enum CodingKeys: String, CodingKey {
        case old, new, format, size, data, zeros, unreadable, unreadableRanges, lostFiles
        case digest, digestOfCopy, digestBlockSize, backingFiles, snapshots
    }

    init(
        old: String, disk: String, new: String, format: TargetFormat, size: UInt64, amounts: CopyProgress.Amounts,
        digest: DiskDigest, digestOfCopy: DiskDigest?, unreadable ranges: [ByteRange],
        files: LostFiles?, leftover: [String]
    ) {
        self.leftover = leftover
        self.old = old
        self.new = new
        self.disk = disk
        target = format
        self.format = format.rawValue
        self.size = size
        data = amounts[.data]
        zeros = amounts[.zeros]
        unreadable = amounts[.unreadable]
        unreadableRanges = ranges.map(ReportedRange.init)
        lostFiles = files
        self.digest = digest.description
        self.digestOfCopy = digestOfCopy?.description
        digestBlockSize = DiskBlocks(diskSize: size).blockSize
    }

    /// The copies beside this one.
    private var others: [MigrationReport] { (backingFiles ?? []) + (snapshots ?? []).map(\.copy) }

    /// Was all of the disk read, and all of the others?
    var isComplete: Bool { ([self] + others).allSatisfy { $0.unreadable == 0 } }

    /// For the end of a copy that is not.
    var incompleteness: Failure {
        let lost = ([self] + others).filter { $0.unreadable > 0 }
        return Failure(
            .incomplete,
            lost.map { "\($0.new): \($0.unreadable) bytes of the disk could not be read, and are zeros" }
                .joined(separator: "; "))
    }

    /// For people, of a copy beside another.
    var line: String {
        let lost = unreadable == 0 ? "" : ", of which \(unreadable) could not be read and are zeros"
        return "\(new), \(size) bytes\(lost), SHA-256 \(digest)"
    }

    /// How many ranges are said on a terminal.
    private static let shownRanges = 20

    var text: String {
        var lines = [
            ("old image", "\(old) (\(disk))"), ("new image", "\(new) (\(target.description))"),
            (
                "disk",
                "\(size) bytes\(ByteText.rounded(size)): \(ByteText.short(data)) of data, \(ByteText.short(zeros)) of zeros"
            ),
        ]
        lines += shape
        if unreadable > 0 {
            lines.append(
                ("lost", "\(unreadable) bytes could not be read, and are zeros in the copy"))
            lines += unreadableRanges.prefix(Self.shownRanges).map { ("lost", "\($0.length) bytes at \($0.offset)") }
            let more = unreadableRanges.count - Self.shownRanges
            if more > 0 { lines.append(("lost", "\(more) more ranges: --json lists all of them")) }
            lines += lostFiles?.lines ?? []
        }
        lines.append(
            ("read back", digestOfCopy == nil ? "no" : "yes, opened anew: every byte is as it was read"))
        lines.append(("SHA-256", "\(digest) (the hash of the hashes of blocks of \(ByteText.short(digestBlockSize)))"))
        return (Self.table(lines) + next).joined(separator: "\n")
    }

    /// What else is in the new images, or is not.
    private var shape: [(String, String)] {
        var lines: [(String, String)] = []
        if let backingFiles {
            lines += backingFiles.map { ("stands on", "\($0.line) (copy of \($0.old))") }
            if backingFiles.isEmpty { lines.append(("stands on", "nothing, as the old image has no backing file")) }
        }
        if let snapshots {
            lines += snapshots.map { ("snapshot", $0.line) }
            if snapshots.isEmpty { lines.append(("snapshots", "the old image has none")) }
        }
        if leftOutSnapshots > 0 {
            lines.append(("snapshots", "\(leftOutSnapshots) of the old image are not copied; --snapshots copies them"))
        }
        return lines
    }

    private var next: [String] {
        let format = target == .raw ? "-f raw " : ""
        var lines = ["To read it, type:", "  nbdecrypt serve \(format)\(ShellText.fileArgument(new))"]
        guard isComplete, digestOfCopy != nil, let image = leftover.first else { return lines }
        lines += [
            "When you have tried it, destroy the old image, and use its passphrase nowhere else:",
            "  shred -u \(ShellText.fileArgument(image))",
            "That does not reach copies: backups, snapshots of a file system or a volume, the cells of an SSD that were written before.",
        ]
        let below = leftover.dropFirst()
        if !below.isEmpty {
            lines.append("It also stands on \(below.joined(separator: ", ")), on which other images may stand.")
        }
        return lines
    }
}
