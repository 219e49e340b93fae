// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats
import Logging
import SystemPackage

/// From a file name to the disks in it: files, formats, ciphers, partitions. With ``ImageOpener``, the only place that
/// knows all layers.
struct DeviceStack {
    /// A disk under the name that it has within its image.
    struct Disk {
        /// "" for the default export, else e.g. "partition/1".
        let name: String
        /// For people, e.g. "qcow2, AES-128, decrypted".
        let description: String
        /// Takes requests of any offset and length.
        let device: any BlockDevice
        /// Of the whole device.
        var bitmaps: [Qcow2Bitmap] = []
        /// The part with the LUKS container that it was decrypted from, or would be.
        var container: DiskPart?

        /// The same under another name.
        func named(_ name: String) -> Disk {
            Disk(name: name, description: description, device: device, bitmaps: bitmaps, container: container)
        }
    }

    /// The default export first.
    let disks: [Disk]

    /// How to open an image.
    struct Options {
        let path: String
        /// Nil: find out.
        let format: ImageFormat?
        /// The file with a detached LUKS header; nil: the image holds its own.
        let luksHeader: String?
        let unlock: LUKSUnlock.Options
        let checksPassphrase: Bool
        let allowsDamage: Bool
        /// Read an image that another program may be writing to.
        let sharesWithWriters: Bool
        /// Clients may change the image.
        let isWritable: Bool
        /// Even where nothing keeps other programs from writing to it.
        let allowsUnlocked: Bool
        let references: FileReferences
        /// Of backing files whose format no image says.
        let formats: BackingFormats
        let selection: ExportSelection
        /// Names of dirty bitmaps that must be offered, and no others; empty: all that can be.
        let bitmaps: [String]
        /// Of partition tables, in bytes; nil: found out.
        let sectorSize: Int?

        var wantsSnapshots: Bool { selection.wantsSnapshots }

        /// How files that the image names are opened.
        var chain: ImageChain.Options {
            ImageChain.Options(references: references, formats: formats, sharesWithWriters: sharesWithWriters)
        }
    }

    /// Opens everything in an image.
    /// - Throws: ``Failure``.
    init(_ image: OpenImage, _ options: Options, ring: SecretRing, log: Logger) throws {
        do {
            let opener = ImageOpener(options: options, ring: ring, log: log)
            // The ciphertext of a container in a file is the file.
            let isFileAlone =
                options.selection.names == .listed(["ciphertext"]) && image.luksHeader == nil && image.format == .luks
                && !options.selection.isPart
            let layer =
                isFileAlone
                ? ImageLayer(
                    path: options.path, format: .raw, encryption: nil, disk: image.file, below: [], snapshots: [])
                : try opener.open(image)
            disks = try DiskFinder(options: options, opener: opener, file: image.file, layer: layer, log: log).disks()
        } catch let error as FormatError {
            throw Failure(error, image: options.path)
        }
        ring.warnIfUnused()
    }
}
