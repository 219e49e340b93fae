// SPDX-License-Identifier: Apache-2.0

package import BlockIO
package import ImageFormats

/// An image that is open, with all files that belong to it. They are opened once, here: what is audited, unlocked and served
/// are the same files, whatever has taken their names since.
package struct OpenImage {
    /// As the caller named it.
    package let name: String
    let source: OpenSource
    /// The source, and what it names.
    let chain: ImageChain
    let luksHeader: DetachedHeader?
    /// Nil when none is wanted, or when the file is not there.
    let overlay: OverlayFile?

    /// Is any of it not on this machine?
    package var isFar: Bool { !sources.allSatisfy(\.isFile) }

    /// Every file of it, with the name that it was opened by: the chain, data files, a detached header.
    package var files: [(name: String, identity: SourceIdentity)] { sources.map { ($0.name, $0.identity) } }

    private var sources: [OpenSource] {
        (chain.links.flatMap { [$0.source, $0.dataFile] } + [luksHeader?.source]).compactMap { $0 }
    }

    /// What it is, or was said to be.
    package var format: ImageFormat { chain.links[0].kind.format }

    /// An image of the chain.
    package struct Layer {
        /// As messages name it.
        package let name: String
        /// In bytes; nil where there are no clusters.
        package let clusterSize: UInt64?
        /// Are clusters allocated in 32 parts?
        package let hasSubclusters: Bool
    }

    /// The image itself, and those that it stands on.
    package var layers: [Layer] {
        chain.links.map { link in
            switch link.kind {
            case .raw, .luks: Layer(name: link.name, clusterSize: nil, hasSubclusters: false)
            case .qcow(let header):
                Layer(name: link.name, clusterSize: header.clusterSize, hasSubclusters: false)
            case .qcow2(let header):
                Layer(
                    name: link.name, clusterSize: header.clusterSize,
                    hasSubclusters: header.features.contains(.extendedL2))
            }
        }
    }

    /// How many internal snapshots the image itself has.
    package var snapshotCount: Int {
        if case .qcow2(let header) = chain.links[0].kind { Int(header.snapshotCount) } else { 0 }
    }

    /// The internal snapshots of the image itself.
    /// - Throws: ``OpeningError`` when their table cannot be right.
    package func snapshots() throws(OpeningError) -> [Qcow2Snapshot] {
        guard case .qcow2(let header) = chain.links[0].kind else { return [] }
        do { return try Qcow2Snapshot.all(of: source.device, header) } catch { throw OpeningError(error, image: name) }
    }

    /// Opens the files, and reads the headers of images among them.
    ///
    /// - Parameter secrets: the names of those that the caller gives; nil: none.
    /// - Throws: ``OpeningError``.
    init(_ options: OpeningOptions, secrets: String?, log: OpeningLog) throws(OpeningError) {
        name = options.name
        do {
            source = try options.sources.open(options.source, options.access)
            if options.sharesWithWriters {
                log.warning("without locks: if another program writes to the image, what is read makes no sense")
            }
            // What begins at a part of the disk is looked at when that is opened.
            let secrets = options.selection.isPart ? nil : secrets
            let format =
                options.luksHeader == nil
                ? try FormatDecision.ofImage(source.device, said: options.format, secrets: secrets, log: log)
                : try FormatDecision.ofDetachedData(source.device, said: options.format)
            chain = try ImageChain(source, format: format, options.chain, log: log)
            if options.isWritable { try Self.checkWritable(chain, repairs: options.repairs) }
        } catch {
            throw OpeningError(error, image: name)
        }
        try options.formats.check(chain)
        luksHeader = try options.luksHeader.map { place throws(OpeningError) in
            let header = try DetachedHeader(place, by: options.sources, options.reading)
            if let reason = header.source.missingLocks { log.warning("\(header.name): \(reason)") }
            return header
        }
        guard case .file(let path)? = options.overlay else {
            overlay = nil
            return
        }
        overlay = try OverlayFile(path, over: chain, options, log: log)
    }
}

extension OpenImage {
    /// Refuses, before a secret is asked for, what is not written to.
    private static func checkWritable(_ chain: ImageChain, repairs: Bool) throws(FormatError) {
        switch chain.links[0].kind {
        case .raw, .luks: return
        case .qcow2(let header): try Qcow2Support.checkWritable(header, isRepaired: repairs)
        case .qcow:
            throw .unsupported(
                "images of qcow version 1 are only read; leave out \(remedy: .writable), or copy the disk into an image of "
                    + "qcow2 first")
        }
    }
}

/// What holds the LUKS header of data elsewhere.
struct DetachedHeader {
    let source: OpenSource

    /// For messages.
    var name: String { source.name }

    /// - Throws: ``OpeningError``, under the name of this source.
    init(_ place: ImageSource, by opener: SourceOpener, _ access: SourceAccess) throws(OpeningError) {
        do { source = try opener.open(place, access) } catch { throw OpeningError(error, image: place.name) }
    }
}
