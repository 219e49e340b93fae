// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import ImageFormats
import Logging
import SystemPackage

/// `nbdecrypt audit`
struct AuditCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract: "Examine all metadata of an image: is it damaged, and does it leak plaintext?",
        discussion: """
            Needs no passphrase and changes nothing. Every table of the image is read and every cluster counted, as \
            qemu-img check does; then it is said what of an encrypted image is stored in the clear. On a disk that is not \
            encrypted, LUKS containers are looked for, in its partitions and logical volumes too; no other guest data is read.

            Exit status: 0 clean, 1 leaks, 65 damaged or not examined in full, whether it leaks or not; others as below.

            \(ExitStatus.explanation)
            """)

    @OptionGroup var image: ImageOptions

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    @Option(
        name: .long,
        help: ArgumentHelp("The file with the LUKS header, where the image does not hold it.", valueName: "path"))
    var header: String?

    @Flag(
        name: .long,
        help: "Examine an image that another program writes to; changes under way look like damage.")
    var forceShare = false

    @OptionGroup(title: "What to look at on the disk") var part: PartOptions
    @OptionGroup(title: "Files that an image names") var references: ReferenceOptions

    func run() throws {
        // Reading the tables of a large image takes a while.
        _ = Termination()
        let bar = AuditProgress()
        let report: AuditReport
        do { report = try examine { bar.show($0) } } catch let error as FormatError {
            bar.clear()
            throw Failure(error, image: image.image)
        }
        bar.clear()
        try Process.printReport(json ? report.json : report.text)
        if let failure = report.failure { throw failure }
    }

    private func examine(_ progress: (Double) -> Void) throws -> AuditReport {
        let log = StandardErrorLog.make(verbosity: 0)
        let path = image.image
        let file = try FileDevice(path: FilePath(path), excludesWriters: !forceShare)
        // The header is not written to.
        let header = try header.map { try DetachedHeader($0, excludesWriters: false) }
        let format =
            header == nil
            ? try FormatDecision.ofImage(file, said: image.format, secrets: nil, log: log)
            : try FormatDecision.ofDetachedData(file, said: image.format)
        let options = ImageChain.Options(
            references: references.policy, formats: try references.formats(), sharesWithWriters: forceShare)
        let chain: ImageChain
        do { chain = try ImageChain(file, path: FilePath(path), format: format, options, log: log) } catch {
            // When the file itself is wrong, that is the audit's to say.
            if error.code != .damaged { log.warning("\(path) is examined without what it names: \(error)") }
            return AuditReport(layers: [
                try AuditedLayer(file, name: path, format: format, luksHeader: header, progress: progress)
            ])
        }
        try options.formats.check(chain)
        return try AuditReport.examine(
            chain, luksHeader: header, part: part.selection(image: path, log: log), progress: progress)
    }
}
