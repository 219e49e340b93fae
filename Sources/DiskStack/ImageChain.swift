// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import SystemPackage

/// The files of an image: what the caller named, the backing file that it names, and so on to the bottom.
///
/// Headers alone are read: no secret is needed.
struct ImageChain {
    /// A source and what it is.
    struct Link {
        let source: OpenSource
        /// 0 is the top.
        let number: Int
        let kind: Kind
        /// Of a qcow2 image that keeps its clusters elsewhere.
        let dataFile: OpenSource?

        var name: String { source.name }

        /// For messages: nothing of the image itself, which is named anyway.
        var shown: String { number == 0 ? "" : "layer \(number) (\(name)): " }
    }

    /// What a file is, with its header.
    enum Kind {
        case raw
        case luks
        case qcow(QcowHeader)
        case qcow2(Qcow2Header)

        var format: ImageFormat {
            switch self {
            case .raw: .raw
            case .luks: .luks
            case .qcow: .qcow
            case .qcow2: .qcow2
            }
        }
    }

    /// The top first.
    let links: [Link]
    /// Why there are no more, though the last one names another; nil when all were found.
    let breakage: FormatError?

    /// QEMU has no limit; nobody has needed more.
    static let maximumDepth = 64

    /// How files that an image names are found and opened.
    struct Options {
        let references: FileReferences
        /// Of backing files whose format no image says.
        let formats: BackingFormats
        let sources: SourceOpener
        /// What is wanted of backing files.
        let access: SourceAccess
        /// What is wanted of the image that the caller named, and of its data file.
        let topAccess: SourceAccess
    }

    /// Follows the names in headers, as far as `options` permit.
    ///
    /// - Parameter format: of `source`.
    /// - Throws: ``FormatError`` about the source itself; what is wrong further down is ``breakage``.
    init(_ source: OpenSource, format: ImageFormat, _ options: Options, log: OpeningLog) throws(FormatError) {
        var follower = Follower(options: options, log: log)
        var links = [try follower.link(source, format)]
        var breakage: FormatError?
        do throws(FormatError) {
            while let link = links.last, let next = try follower.below(link) { links.append(next) }
        } catch { breakage = error }
        self.links = links
        self.breakage = breakage
    }

    /// Goes from one link to the next.
    private struct Follower {
        let options: Options
        let log: OpeningLog
        var sources: [SourceIdentity] = []

        mutating func link(_ source: OpenSource, _ format: ImageFormat) throws(FormatError) -> Link {
            let number = sources.count
            sources.append(source.identity)
            if let reason = source.missingLocks { log.warning("\(source.name): \(reason)") }
            do {
                let kind = try Self.kind(source.device, format)
                var dataFile: OpenSource?
                if case .qcow2(let header) = kind { dataFile = try self.dataFile(source, kind, header, number) }
                return Link(source: source, number: number, kind: kind, dataFile: dataFile)
            } catch {
                throw number == 0 ? error : error.naming("layer \(number) (\(source.name))")
            }
        }

        private func isInChain(_ source: OpenSource) -> Bool {
            sources.contains { $0.isSamePlace(as: source.identity) }
        }

        private static func kind(_ file: any BlockDevice, _ format: ImageFormat) throws(FormatError) -> Kind {
            switch format {
            case .raw: return .raw
            case .luks: return .luks
            case .qcow:
                guard let header = try QcowHeader(device: file) else { throw FormatDecision.isNot(.qcow) }
                return .qcow(header)
            case .qcow2:
                guard let header = try Qcow2Header(device: file) else { throw FormatDecision.isNot(.qcow2) }
                try Qcow2Support.check(header)
                return .qcow2(header)
            }
        }

        private func dataFile(
            _ source: OpenSource, _ kind: Kind, _ header: Qcow2Header, _ number: Int
        ) throws(FormatError) -> OpenSource? {
            guard header.features.contains(.externalDataFile), let reference = header.extensions.dataFile else {
                return nil
            }
            let called = "the external data file (\(reference.shown))"
            let command = RenameCommand(source, kind, isData: true)
            let name: ReferenceName
            do { name = try ReferenceName(ofDataFile: reference) } catch {
                throw .unsupported(
                    "\(called) \(error.reason); \(command.advice(error.help, name: reference, said: nil))")
            }
            // What holds the clusters of the image that is written to is written to as well.
            let data = try options.references.open(
                name, called, of: source, by: options.sources, number == 0 ? options.topAccess : options.access,
                renaming: command.otherName(said: nil))
            guard !isInChain(data) else {
                throw .unsupported("\(called) is an image of the chain itself")
            }
            if let reason = data.missingLocks { log.warning("\(data.name): \(reason)") }
            log.notice("layer \(number): external data file \(data.name)")
            return data
        }

        /// The link below; nil at the bottom.
        mutating func below(_ link: Link) throws(FormatError) -> Link? {
            do {
                guard let (source, format) = try backing(link) else { return nil }
                log.notice("layer \(link.number + 1): backing file \(source.name), format \(format.rawValue)")
                return try self.link(source, format)
            } catch {
                // What is said of the layer below names that one.
                throw sources.count > link.number + 1 || link.number == 0
                    ? error : error.naming("layer \(link.number) (\(link.name))")
            }
        }

        private func backing(_ link: Link) throws(FormatError) -> (source: OpenSource, format: ImageFormat)? {
            let (reference, formatName): (FileReference?, String?) =
                switch link.kind {
                case .raw, .luks: (nil, nil)
                case .qcow(let header): (header.backingFile, nil)
                case .qcow2(let header): (header.backingFile, header.extensions.backingFormat)
                }
            guard let reference else { return nil }
            guard link.number + 1 < maximumDepth else {
                throw .unsupported(
                    "the chain of backing files is longer than \(maximumDepth); shorten it with qemu-img rebase")
            }
            let called = "the backing file (\(reference.shown))"
            let command = RenameCommand(link.source, link.kind, isData: false)
            let name: ReferenceName
            do { name = try ReferenceName(reference) } catch {
                throw .unsupported(
                    "\(called) \(error.reason); \(command.advice(error.help, name: reference, said: formatName))")
            }
            // QEMU prefers the one, others may prefer the other.
            if let inName = name.format, let formatName,
                ImageFormat(nameInImage: inName) != ImageFormat(nameInImage: formatName)
            {
                let advice = command.advice(
                    .rename(path: name.path.string, format: nil), name: reference, said: formatName)
                throw .unsupported(
                    "\(called) has the format \(formatName) in the header but \(inName) in its name; say one of them: \(advice)"
                )
            }
            let source = try options.references.open(
                name, called, of: link.source, by: options.sources, options.access,
                renaming: command.otherName(said: formatName ?? name.format))
            guard !isInChain(source) else {
                throw .damaged(
                    "backing file", at: 8, found: "\(reference.shown), which is above itself in the chain",
                    allowed: "another file",
                    advice: command.otherName(said: formatName ?? name.format).map { "in a copy of the image, \($0)" }
                        ?? "restore the image from a backup")
            }
            let format = try FormatDecision.ofBackingFile(
                source.device, layer: link.number + 1, said: formatName ?? name.format, called, options.formats,
                log: log)
            return (source, format)
        }
    }
}
