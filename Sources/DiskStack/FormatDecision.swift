// SPDX-License-Identifier: Apache-2.0

package import BlockIO
package import ImageFormats

/// What a file is taken for. Every command asks here, so that what is examined is what is served.
///
/// The contents of a file never decide alone between raw and something else: a guest that owns a raw disk can write the
/// header of any format to it. Where nobody says what a file is, and its contents look like more than a plain disk, there
/// are two answers, and one of them is wrong bytes: then it is refused.
package enum FormatDecision {
    /// Why a file is not opened that is said to be of a format, and is not.
    package static func isNot(_ format: ImageFormat) -> FormatError {
        let name = format == .qcow ? "qcow version 1" : format.rawValue
        return .notRecognised(
            "the file is not \(name); leave \(remedy: .format(nil)) out, or say \(remedy: .format("raw")) if it is a plain "
                + "disk image")
    }

    /// The format of the image that the caller names.
    ///
    /// - Parameters:
    ///   - said: by the caller.
    ///   - secrets: the names of those that the caller gives; nil: none.
    /// - Throws: ``FormatError`` when no format fits, or when a secret is given for what shall be read as a plain disk but
    ///   looks like a container.
    static func ofImage(
        _ file: any BlockDevice, said: ImageFormat?, secrets: String?, log: OpeningLog
    ) throws(FormatError) -> ImageFormat {
        guard let said else {
            let found = try ImageProbe.detect(file)
            log.info("found format \(found.rawValue)")
            return found
        }
        // A start that cannot be read looks like nothing; clients may read the rest.
        guard said == .raw, let signature = try? ImageProbe.signature(of: file) else { return said }
        guard let secrets else {
            log.warning(
                "the contents look like \(signature.name) and are taken as they are, as \(remedy: .format("raw")) says"
            )
            return said
        }
        let decrypt: Sentence =
            switch signature {
            case .format(let format): "to have it decrypted, say \(remedy: .format(format.rawValue))"
            case .encryptedClone: throw ImageProbe.encryptedClone
            case .other(_, let advice): "nbdecrypt does not read that: \(advice)"
            }
        throw .unsupported(
            "\(remedy: .format("raw")) says that it is a plain disk, but it looks like \(signature.name), and \(secrets) is given to decrypt "
                + "it; \(decrypt); to take it as it is, leave the secret out")
    }

    /// The format of a file whose LUKS header is elsewhere: an image with the data of the container on its disk, or else
    /// nothing but that data.
    /// - Throws: ``FormatError`` when it looks like an image that this program does not read.
    package static func ofDetachedData(_ file: any BlockDevice, said: ImageFormat?) throws(FormatError) -> ImageFormat {
        if let said { return said }
        switch try ImageProbe.signature(of: file) {
        case .format(let format)?: return format
        case .encryptedClone?: throw ImageProbe.encryptedClone
        case .other(let name, let advice)?:
            throw .unsupported(
                "the file holds \(name), which this version of nbdecrypt does not read; \(advice); if it is the data of a "
                    + "LUKS volume and looks like that by chance, say so with \(remedy: .format("luks"))")
        case nil: return .luks
        }
    }

    /// That a part of a disk begins as an image does, for a sentence; nil when it does not. LUKS is no image here.
    static func looksLikeImage(_ part: DiskPart) -> String? {
        guard let signature = try? ImageProbe.signature(of: part.device) else { return nil }
        switch signature {
        case .format(.luks), .encryptedClone: return nil
        case .format, .other: return "\(part.name) looks like \(signature.name)"
        }
    }

    /// The format of a backing file: what the image says, what the caller says, or else raw, unless that is doubtful.
    ///
    /// - Parameters:
    ///   - layer: the number of the backing file in its chain.
    ///   - said: by the image, as QEMU writes it.
    ///   - name: for messages, e.g. "the backing file (base.qcow2)".
    /// - Throws: ``FormatError`` when the format is none that is read, or when nobody says it and the contents have a
    ///   known signature.
    static func ofBackingFile(
        _ file: any BlockDevice, layer: Int, said: String?, _ name: String, _ formats: BackingFormats, log: OpeningLog
    ) throws(FormatError) -> ImageFormat {
        if let said {
            guard let format = ImageFormat(nameInImage: said) else {
                throw .unsupported(
                    "\(name) has the format \(said), which nbdecrypt does not read; "
                        + "make a copy that stands alone with qemu-img convert")
            }
            return format
        }
        if let format = formats[layer] { return format }
        let unsaid = "the image does not say which format \(name) has"
        guard let signature = try ImageProbe.signature(of: file) else {
            log.warning(
                "\(unsaid): it is read as raw; say \(remedy: .backingFormat(layer: nil, format: nil)) to have it otherwise"
            )
            return .raw
        }
        let isRaw: Sentence =
            "or \(remedy: .backingFormat(layer: layer, format: "raw")) if the guest is to see these bytes"
        switch signature {
        case .format(let format):
            throw .unsupported(
                "\(unsaid), and it looks like \(signature.name); say \(remedy: .backingFormat(layer: layer, format: format.rawValue)) to have "
                    + "it read as that, \(isRaw)")
        case .encryptedClone: throw ImageProbe.encryptedClone.naming("\(unsaid); it is")
        case .other(_, let advice):
            throw .unsupported(
                "\(unsaid), and it looks like \(signature.name), which this version of nbdecrypt does not read: \(advice); "
                    + "make a copy that stands alone with qemu-img convert, \(isRaw)")
        }
    }
}

extension ImageFormat {
    /// A format as an image names that of its backing file; nil when it is none that this program reads.
    init?(nameInImage name: String) {
        // QEMU's name of the driver that reads a file as it is.
        if name == "file" || name == "host_device" { self = .raw } else { self.init(rawValue: name) }
    }
}
