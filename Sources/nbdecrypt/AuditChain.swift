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
        let links = links(file, path: path, format: format, options, log: log)
        var layers: [AuditedLayer] = []
        let count = Double(max(1, links.count))
        func partly(_ part: Double) { progress((Double(layers.count) + part) / count) }
        guard !links.isEmpty else {
            return AuditReport(layers: [
                try AuditedLayer(file, name: path, format: format, luksHeader: luksHeader, progress: progress)
            ])
        }
        for link in links {
            layers.append(
                try AuditedLayer(
                    link.file, name: link.path.string, format: link.kind.format,
                    luksHeader: link.number == 0 ? luksHeader : nil, dataFileSize: link.dataFile?.size, progress: partly
                ))
        }
        return AuditReport(layers: layers)
    }

    /// The files of the chain; none when they cannot all be found, and the image is examined alone.
    private static func links(
        _ file: FileDevice, path: String, format: ImageFormat?, _ options: ImageChain.Options, log: Logger
    ) -> [ImageChain.Link] {
        guard let format = format ?? (try? ImageProbe.detect(file)), format == .qcow2 || format == .qcow else {
            return []
        }
        do {
            return try ImageChain(file, path: FilePath(path), format: format, options, log: log).links
        } catch {
            // What is wrong with the image itself is the audit's to say.
            if error.code != .damaged { log.warning("\(path) is examined without what it names: \(error)") }
            return []
        }
    }
}
