// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import SystemPackage

/// An image that is open, with all files that belong to it. They are opened once, here: what is audited, unlocked and served
/// are the same files, whatever has taken their names since.
package struct OpenImage {
    /// As the caller named it.
    package let path: String
    let file: FileDevice
    /// The file, and what it names.
    let chain: ImageChain
    let luksHeader: DetachedHeader?

    var format: ImageFormat { chain.links[0].kind.format }

    /// Opens the files, and reads the headers of images among them.
    ///
    /// - Parameter secrets: the names of those that the caller gives; nil: none.
    /// - Throws: ``OpeningError``.
    init(_ options: OpeningOptions, secrets: String?, log: OpeningLog) throws(OpeningError) {
        path = options.path
        guard !options.isWritable || options.format == .raw else {
            throw OpeningError(
                .usage,
                "\(path): only raw images can be written to so far; leave out --writable to serve the image "
                    + "read-only, or add -f raw if it is a plain disk, and not a format that holds one")
        }
        do {
            file = try FileDevice(
                path: FilePath(path), excludesWriters: !options.sharesWithWriters, isWritable: options.isWritable,
                allowsUnlocked: options.allowsUnlocked)
            if options.sharesWithWriters {
                log.warning("without locks: if another program writes to the image, what is read makes no sense")
            }
            // What begins at a part of the disk is looked at when that is opened.
            let secrets = options.selection.isPart ? nil : secrets
            let format =
                options.luksHeader == nil
                ? try FormatDecision.ofImage(file, said: options.format, secrets: secrets, log: log)
                : try FormatDecision.ofDetachedData(file, said: options.format)
            chain = try ImageChain(file, path: FilePath(path), format: format, options.chain, log: log)
        } catch {
            throw OpeningError(error, image: path)
        }
        try options.formats.check(chain)
        guard let headerPath = options.luksHeader else {
            luksHeader = nil
            return
        }
        let header = try DetachedHeader(headerPath, excludesWriters: !options.sharesWithWriters)
        if let reason = header.file.missingLocks { log.warning("\(headerPath): \(reason)") }
        luksHeader = header
    }
}

/// The file that holds the LUKS header of data elsewhere.
struct DetachedHeader {
    let path: String
    let file: FileDevice

    /// - Throws: ``OpeningError``, under the name of this file.
    init(_ path: String, excludesWriters: Bool) throws(OpeningError) {
        self.path = path
        do { file = try FileDevice(path: FilePath(path), excludesWriters: excludesWriters) } catch {
            throw OpeningError(error, image: path)
        }
    }
}
