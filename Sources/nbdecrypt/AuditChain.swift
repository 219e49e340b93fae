// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import SystemPackage

extension AuditReport {
    /// Audits an image and the images below it, as far as names in headers may be followed.
    ///
    /// - Parameter progress: is told the part that is done, 0 to 1.
    /// - Throws: ``FormatError`` or ``Failure``; damage is no error, but a result.
    static func examine(
        _ chain: ImageChain, luksHeader: DetachedHeader?, progress: (Double) -> Void = { _ in }
    ) throws -> AuditReport {
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
}
