// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import ImageFormats
import SystemPackage

/// `nbdecrypt info`
struct InfoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info",
        abstract: "Show what an image is and how it is encrypted.",
        discussion: """
            Needs no passphrase, changes nothing, and opens no other file that the image names.

            \(ExitStatus.explanation)
            """)

    @OptionGroup var image: ImageOptions

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    func run() throws {
        // Counting the clusters of a large image takes a moment.
        _ = Termination()
        let report: InfoReport
        do {
            let file = try FileDevice(path: FilePath(image.image), excludesWriters: false)
            report = try InfoReport(file, path: image.image, format: image.format)
        } catch let error as FormatError {
            throw Failure(error, image: image.image)
        } catch let error as BlockError {
            throw Failure(.badImage, "\(image.image): \(error)")
        }
        Process.printLine(json ? try report.json : report.text)
        if let fault = report.clusters?.firstFault {
            throw Failure(.badImage, "\(image.image): \(fault); the image is damaged or not complete")
        }
    }
}
