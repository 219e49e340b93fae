// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import SystemPackage

/// The file of an overlay that stays: a qcow2 image with LUKS inside, open for writing, whose backing file is the image.
///
/// QEMU makes such files, reads them, and brings what is in them into the image; see ``OverlayCommands``.
struct OverlayFile {
    let source: OpenSource
    let header: Qcow2Header

    /// Needs no secret.
    ///
    /// - Parameter chain: of the image.
    /// - Returns: nil when there is no such file.
    /// - Throws: ``OpeningError``, under the name of the file, for one that cannot hold the changes of this image.
    init?(_ path: FilePath, over chain: ImageChain, _ options: OpeningOptions, log: OpeningLog) throws(OpeningError) {
        do throws(FormatError) {
            guard try Self.isThere(path, chain) else { return nil }
            source = try Self.open(path, options)
            if let reason = source.missingLocks { log.warning("\(source.name): \(reason)") }
            header = try Self.header(source.device, isRepaired: options.repairs)
            if let name = header.backingFile {
                try Self.check(name, header, source, chain.links[0])
            } else {
                log.warning(
                    "\(source.name) does not say whose changes it holds; it is taken for those of \(options.name)")
            }
        } catch {
            throw OpeningError(error, image: path.string)
        }
    }

    /// What to do when a file is none of an overlay.
    private static let otherFile: Sentence =
        "give \(remedy: .overlayFile) the name of a file that is not there, and it says how to make one"

    private static func open(_ path: FilePath, _ options: OpeningOptions) throws(FormatError) -> OpenSource {
        do {
            return try options.sources.open(
                .file(path), SourceAccess(isWritable: true, allowsUnlocked: options.allowsUnlocked))
        } catch { throw error.replacing(.writable, with: .overlayFile) }
    }

    /// Is there a file, and is it none of the image itself?
    private static func isThere(_ path: FilePath, _ chain: ImageChain) throws(FormatError) -> Bool {
        let place = try ImagePlace(path)
        let identity: FileDevice.Identity
        do { identity = try place.identity() } catch {
            // Why else it cannot be found is said when it is opened.
            return error != .noSuchFileOrDirectory
        }
        let files = chain.links.flatMap { [$0.source, $0.dataFile] }.compactMap { $0 }
        guard !files.contains(where: { $0.identity.isSamePlace(as: .file(identity)) }) else {
            throw .unsupported("the overlay is a file of the image itself; \(otherFile)")
        }
        return true
    }

    private static func header(_ file: any BlockDevice, isRepaired: Bool) throws(FormatError) -> Qcow2Header {
        guard let header = try Qcow2Header(device: file) else {
            throw .notRecognised("an overlay is a qcow2 image with LUKS inside, and this is none; \(otherFile)")
        }
        try Qcow2Support.checkWritable(header, isRepaired: isRepaired)
        guard header.encryption == .luks else {
            let found = header.encryption == .none ? "not encrypted" : "encrypted with AES, which proves no passphrase"
            throw .unsupported(
                "an overlay holds what clients write and is encrypted with LUKS, and this image is \(found); \(otherFile)"
            )
        }
        guard !header.features.contains(.externalDataFile) else {
            throw .unsupported("an overlay holds the changes itself, and this image has a data file; \(otherFile)")
        }
        return header
    }

    /// Refuses the overlay of another image.
    private static func check(
        _ reference: FileReference, _ header: Qcow2Header, _ source: OpenSource, _ image: ImageChain.Link
    ) throws(FormatError) {
        guard !isName(reference, in: source, of: image.source) else { return }
        let command = RenameCommand(source, .qcow2(header), isData: false)
            .rebase(to: OverlayCommands.nameInHeader(image.source), format: image.kind.format.rawValue)
        throw .unsupported(
            "it holds the changes of another image, \(reference.shown); name that one, or if \(image.name) is the same under "
                + "another name: \(command)")
    }

    private static func isName(_ reference: FileReference, in source: OpenSource, of image: OpenSource) -> Bool {
        guard image.isFile else { return reference.shown == image.name }
        // A name that would not be followed is none of a file that somebody has named.
        guard case .directory(let place, _) = source.place, let name = try? ReferenceName(reference),
            let identity = try? place.identity(of: name.path)
        else { return false }
        return image.identity.isSamePlace(as: .file(identity))
    }
}

extension ImageLayer {
    /// Puts the file of an overlay over the disk, before anything is looked for on it: all that is found there sees the same
    /// changes.
    ///
    /// Snapshots and the layers below stay as they are. Dirty bitmaps would not tell of the changes, and are left out.
    ///
    /// - Parameter overlay: nil when there is no file yet.
    /// - Throws: ``OpeningError`` when it does not fit, or no secret fits.
    mutating func putOverlay(
        _ overlay: OverlayFile?, at path: FilePath, over image: OpenImage, _ opener: ImageOpener
    ) throws {
        guard disk.size % 512 == 0 else {
            throw OpeningError(
                .usage,
                "\(name): the disk has \(disk.size) bytes, and that of an overlay in a file has whole sectors of 512; serve it with \(remedy: .overlay), or make the image longer first"
            )
        }
        let commands = OverlayCommands(path, of: image)
        guard let overlay else {
            throw OpeningError(
                .usage,
                "\(path): there is no such file; to have one for the changes of \(name), with the passphrase that is in the file OVERLAY-SECRET (all of its bytes, so without a newline at the end): \(commands.make(size: disk.size))"
            )
        }
        guard overlay.header.virtualSize == disk.size else {
            throw OpeningError(
                .usage,
                "\(path): it is for a disk of \(overlay.header.virtualSize) bytes, and that of \(name) has \(disk.size); name another file that is not there, and \(remedy: .overlayFile) says how to make one"
            )
        }
        do {
            disk = try overlay.disk(over: disk, opener)
        } catch let error as OpeningError where error.isOfSecret && !opener.ring.isPinned(.passphraseOfOverlay) {
            throw OpeningError(.wrongSecret, "\(error); the overlay has its own secret with \(remedy: .overlaySecret)")
        } catch let error as FormatError {
            throw OpeningError(error, image: path.string)
        }
        opener.log.notice("\(name): changes go to \(path), and stay there")
        bitmaps = []
        hasOverlay = true
    }
}

extension OverlayFile {
    /// The disk with the changes; takes requests of any offset and length.
    ///
    /// - Parameter below: the disk without them.
    /// - Throws: ``OpeningError`` of a secret; ``FormatError``.
    fileprivate func disk(over below: any BlockDevice, _ opener: ImageOpener) throws -> any BlockDevice {
        let file = source.device
        try MappedCensus.checkL1(file: file, header: header)
        let (cipher, _) = try opener.containers.opener(source.name, own: .passphraseOfOverlay)
            .cipher(qcow2Header: header.luksWindow(in: file))
        let header = try ImageRepair(isWanted: opener.options.repairs, log: opener.log)
            .header(of: file, header, dataFile: nil, name: "\(source.name): ")
        return AlignedDevice.lifting(
            try Qcow2Image(
                writing: file, header: header, cipher: cipher, dataFile: nil, backing: below, cache: opener.cache))
    }
}
