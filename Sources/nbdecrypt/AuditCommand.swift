// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import ImageFormats
import SystemPackage

/// `nbdecrypt audit`
struct AuditCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract: "Examine all metadata of an image: is it damaged, and does it leak plaintext?",
        discussion: """
            Needs no passphrase and changes nothing. Every table of the image is read and every cluster counted, as \
            qemu-img check does; then it is said what of an encrypted image is stored in the clear. Guest data is not read.

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

    @OptionGroup(title: "Files that an image names") var references: ReferenceOptions

    func run() throws {
        // Reading the tables of a large image takes a while.
        _ = Termination()
        let bar = AuditProgress()
        let report: AuditReport
        do {
            let file = try FileDevice(path: FilePath(image.image), excludesWriters: !forceShare)
            let options = ImageChain.Options(
                references: references.policy, backingFormat: references.backingFormat, sharesWithWriters: forceShare)
            report = try AuditReport.examine(
                file, path: image.image, format: image.format, luksHeader: header, options,
                log: StandardErrorLog.make(verbosity: 0)
            ) { bar.show($0) }
        } catch let error as FormatError {
            bar.clear()
            throw Failure(error, image: image.image)
        }
        bar.clear()
        Process.printLine(json ? try report.json : report.text)
        if let failure = report.failure { throw failure }
    }
}
