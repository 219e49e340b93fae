// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Logging
import SystemPackage

extension AuditReport {
    /// Audits an image and the images below it, as far as names in headers may be followed.
    ///
    /// - Parameters:
    ///   - file: the image that the caller named.
    ///   - luksHeader: the file with a detached LUKS header.
    ///   - progress: is told the part that is done, 0 to 1.
    /// - Throws: ``FormatError`` or ``Failure``; damage is no error, but a result.
    static func examine(
        _ file: FileDevice, path: String, format: ImageFormat?, luksHeader: String?, _ options: ImageChain.Options,
        log: Logger, progress: (Double) -> Void = { _ in }
    ) throws -> AuditReport {
        guard let chain = chain(file, path: path, format: format, options, log: log) else {
            return AuditReport(layers: [
                try AuditedLayer(file, name: path, format: format, luksHeader: luksHeader, progress: progress)
            ])
        }
        var layers: [AuditedLayer] = []
        let count = Double(chain.links.count)
        for link in chain.links {
            layers.append(
                try AuditedLayer(
                    link.file, name: link.path.string, format: link.kind.format,
                    luksHeader: link.number == 0 ? luksHeader : nil, dataFileSize: link.dataFile?.size
                ) { progress((Double(link.number) + $0) / count) })
        }
        if let breakage = chain.breakage {
            let sentence = "what it names could not be examined: \(breakage)"
            // A loop, or a layer below that is damaged, is damage; a name that may not be followed is not.
            if breakage.code == .damaged || breakage.code == .notRecognised {
                layers[layers.count - 1].faults.note(.header, at: nil, sentence)
            } else {
                layers[layers.count - 1].incompleteness = sentence
            }
        }
        return AuditReport(layers: layers)
    }

    /// The files of the chain; nil for what has none, or when the file itself is wrong, which is the audit's to say.
    private static func chain(
        _ file: FileDevice, path: String, format: ImageFormat?, _ options: ImageChain.Options, log: Logger
    ) -> ImageChain? {
        guard let format = format ?? (try? ImageProbe.detect(file)), format == .qcow2 || format == .qcow else {
            return nil
        }
        do { return try ImageChain(file, path: FilePath(path), format: format, options, log: log) } catch {
            if error.code != .damaged { log.warning("\(path) is examined without what it names: \(error)") }
            return nil
        }
    }
}
