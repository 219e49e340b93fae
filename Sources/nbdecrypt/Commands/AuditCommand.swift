// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import DiskStack

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

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Draw what lies where in the files and on the disk, into a new file, as SVG.", valueName: "path"))
    var map: String?

    @OptionGroup(title: "What to look at on the disk") var part: PartOptions
    @OptionGroup(title: "Files that an image names") var references: ReferenceOptions

    func validate() throws {
        try NewFile.checkName(map, "--map", standardOutput: "the report")
    }

    func run() throws {
        if let map { try NewFile.checkIsNew(map) }
        // Reading the tables of a large image takes a while.
        let termination = Termination()
        let bar = AuditProgress()
        let options = try options()
        let audit: ImageAudit
        do throws(OpeningError) {
            let log = StandardErrorLog.make(verbosity: 0).opening
            audit = try ImageAudit(options, log: log, drawsMaps: map != nil) { bar.show($0) }
        } catch {
            bar.clear()
            throw Failure(error)
        }
        bar.clear()
        let report = AuditReport(audit)
        if let map { try NewFile.write(AuditPicture(audit, verdict: report.verdict).svg, to: map, termination) }
        try Process.printReport(json ? report.json : report.text)
        if let failure = report.failure { throw failure }
    }

    private func options() throws -> OpeningOptions {
        var options = OpeningOptions(image.source)
        options.format = image.format
        options.luksHeader = header.map { ImageSource($0) }
        options.sharesWithWriters = forceShare
        try references.apply(to: &options)
        part.apply(to: &options)
        return options
    }
}
