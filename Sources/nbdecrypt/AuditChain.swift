// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import SystemPackage

extension AuditReport {
    /// Audits an image and the images below it, as far as names in headers may be followed; then what is encrypted on its disk.
    ///
    /// - Parameters:
    ///   - part: what of the disk is looked at, and is the data of a detached header.
    ///   - progress: is told the part that is done, 0 to 1.
    /// - Throws: ``FormatError`` or ``Failure``; damage is no error, but a result.
    static func examine(
        _ chain: ImageChain, luksHeader: DetachedHeader?, part: PartSelection,
        progress: (Double) -> Void = { _ in }
    ) throws -> AuditReport {
        let dataSize = luksHeader == nil ? nil : try detachedDataSize(chain, part)
        var layers: [AuditedLayer] = []
        let count = Double(chain.links.count)
        for link in chain.links {
            layers.append(
                try AuditedLayer(
                    link.file, name: link.path.string, format: link.kind.format,
                    luksHeader: link.number == 0 ? luksHeader : nil, dataSize: dataSize,
                    dataFileSize: link.dataFile?.size
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
        return AuditReport(layers: layers, disk: try disk(chain, layers, luksHeader, part))
    }

    /// The size of the data of a detached header, in bytes; nil where a key is needed to tell.
    private static func detachedDataSize(_ chain: ImageChain, _ part: PartSelection) throws -> UInt64? {
        let top = chain.links[0]
        let disk: (any BlockDevice)? =
            switch top.kind {
            case .raw, .luks: top.file
            case .qcow, .qcow2: chain.plainDisk
            }
        guard let disk else { return nil }
        return try part.detachedData(on: disk, "", said: top.kind.format).device.size
    }

    /// What is on the disk. Nothing is looked for on one that is damaged.
    private static func disk(
        _ chain: ImageChain, _ layers: [AuditedLayer], _ luksHeader: DetachedHeader?, _ part: PartSelection
    ) throws -> AuditedDisk {
        guard luksHeader == nil else { return AuditedDisk() }
        guard let disk = layers.allSatisfy(\.isSound) ? chain.plainDisk : nil else {
            guard !part.isPart else {
                throw Failure(
                    .usage,
                    "\(part.image): audit decrypts nothing, and looks for parts of a sound disk only; leave out the options that name one"
                )
            }
            return AuditedDisk()
        }
        return try AuditedDisk(disk, part)
    }
}
