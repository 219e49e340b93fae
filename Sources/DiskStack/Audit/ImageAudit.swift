// SPDX-License-Identifier: Apache-2.0

import BlockIO
package import ImageFormats

/// What all metadata of an image say: of its layers, and of what is encrypted on its disk. No secret is needed.
package struct ImageAudit {
    /// The top first.
    package let layers: [AuditedLayer]
    /// What was found on the disk that they make.
    package let disk: AuditedDisk

    /// The maps of all layers have so many cells together at most.
    package static let mapCells = 4096
    /// So many containers on the disk are drawn at most, in half as many cells as all layers.
    package static let drawnContainers = 32

    private init(layers: [AuditedLayer], disk: AuditedDisk = AuditedDisk()) {
        self.layers = layers
        self.disk = disk
    }

    /// Opens and audits the files of an image.
    ///
    /// - Parameters:
    ///   - drawsMaps: it is told of each layer what lies where.
    ///   - progress: is told the part that is done, 0 to 1.
    /// - Throws: ``OpeningError``; damage is no error, but a result.
    package init(
        _ options: OpeningOptions, log: OpeningLog, drawsMaps: Bool = false, progress: (Double) -> Void = { _ in }
    ) throws(OpeningError) {
        do { self = try Self.examine(options, log, drawsMaps, progress) } catch {
            throw OpeningError(opening: error, image: options.name)
        }
    }

    /// Audits an image that is open.
    package init(_ image: OpenImage, _ options: OpeningOptions, log: OpeningLog) throws(OpeningError) {
        do {
            self = try Self.examine(
                image.chain, luksHeader: image.luksHeader, part: PartSelection(options, log), drawsMaps: false
            ) { _ in }
        } catch {
            throw OpeningError(opening: error, image: options.name)
        }
    }

    private static func examine(
        _ options: OpeningOptions, _ log: OpeningLog, _ drawsMaps: Bool, _ progress: (Double) -> Void
    ) throws -> ImageAudit {
        let source = try options.sources.open(options.source, options.reading)
        let file = source.device
        // The header is not written to.
        let header = try options.luksHeader.map {
            try DetachedHeader($0, by: options.sources, SourceAccess(excludesWriters: false))
        }
        let format =
            header == nil
            ? try FormatDecision.ofImage(file, said: options.format, secrets: nil, log: log)
            : try FormatDecision.ofDetachedData(file, said: options.format)
        let chain: ImageChain
        do { chain = try ImageChain(source, format: format, options.chain, log: log) } catch {
            // When the file itself is wrong, that is the audit's to say.
            if error.code != .damaged, error.code != .notRecognised {
                log.warning("\(source.name) is examined without what it names: \(error)")
            }
            return ImageAudit(layers: [
                try AuditedLayer(
                    file, name: source.name, format: format, luksHeader: header,
                    mapCells: drawsMaps ? Self.mapCells / 2 : nil, progress: progress)
            ])
        }
        try options.formats.check(chain)
        return try examine(
            chain, luksHeader: header, part: PartSelection(options, log), drawsMaps: drawsMaps, progress: progress)
    }

    /// Audits an image and the images below it, as far as names in headers may be followed; then what is encrypted on its disk.
    ///
    /// - Parameters:
    ///   - part: what of the disk is looked at, and is the data of a detached header.
    ///   - drawsMaps: it is told of each layer what lies where.
    ///   - progress: is told the part that is done, 0 to 1.
    /// - Throws: ``FormatError`` or ``OpeningError``; damage is no error, but a result.
    private static func examine(
        _ chain: ImageChain, luksHeader: DetachedHeader?, part: PartSelection, drawsMaps: Bool,
        progress: (Double) -> Void
    ) throws -> ImageAudit {
        let dataSize = luksHeader == nil ? nil : try detachedDataSize(chain, part)
        var layers: [AuditedLayer] = []
        let count = Double(chain.links.count)
        for link in chain.links {
            layers.append(
                try AuditedLayer(
                    link.source.device, name: link.name, format: link.kind.format,
                    luksHeader: link.number == 0 ? luksHeader : nil, dataSize: dataSize,
                    dataFileSize: link.dataFile?.device.size,
                    mapCells: drawsMaps ? Self.mapCells / 2 / chain.links.count : nil
                ) { progress((Double(link.number) + $0) / count) })
        }
        if let breakage = chain.breakage {
            let sentence: Sentence = "what it names could not be examined: \(breakage)"
            // A loop, or a layer below that is damaged, is damage; a name that may not be followed is not.
            if breakage.code == .damaged || breakage.code == .notRecognised {
                layers[layers.count - 1].faults.note(.header, at: nil, sentence)
            } else {
                layers[layers.count - 1].incompleteness = sentence
            }
        }
        return ImageAudit(layers: layers, disk: try disk(chain, layers, luksHeader, part, drawsMaps))
    }

    /// The size of the data of a detached header, in bytes; nil where a key is needed to tell.
    private static func detachedDataSize(_ chain: ImageChain, _ part: PartSelection) throws -> UInt64? {
        let top = chain.links[0]
        let disk: (any BlockDevice)? =
            switch top.kind {
            case .raw, .luks: top.source.device
            case .qcow, .qcow2: chain.plainDisk
            }
        guard let disk else { return nil }
        return try part.detachedData(on: disk, "", said: top.kind.format).device.size
    }

    /// What is on the disk. Nothing is looked for on one that is damaged.
    private static func disk(
        _ chain: ImageChain, _ layers: [AuditedLayer], _ luksHeader: DetachedHeader?, _ part: PartSelection,
        _ drawsMaps: Bool
    ) throws -> AuditedDisk {
        guard luksHeader == nil else { return AuditedDisk() }
        guard let disk = layers.allSatisfy(\.isSound) ? chain.plainDisk : nil else {
            guard !part.isPart else {
                throw OpeningError(
                    .usage,
                    "\(part.image): audit decrypts nothing, and looks for parts of a sound disk only; leave out the options that name one"
                )
            }
            return AuditedDisk()
        }
        return try AuditedDisk(disk, part, drawsMaps: drawsMaps)
    }
}
