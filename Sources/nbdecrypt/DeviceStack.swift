// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats
import Logging
import SystemPackage

/// From a file name to the disk in it: file, format, cipher. The only place that knows all layers.
struct DeviceStack {
    /// The guest disk; takes requests of any offset and length.
    let disk: any BlockDevice
    /// For people, e.g. "qcow2, AES-128, decrypted".
    let description: String

    /// How to open an image.
    struct Options {
        let path: String
        /// Nil: find out.
        let format: ImageFormat?
        let secret: SecretSource
        let checksPassphrase: Bool
        let allowsDamage: Bool
        /// Read an image that another program may be writing to.
        let sharesWithWriters: Bool
    }

    /// Opens the image and everything in it.
    /// - Throws: ``Failure``.
    init(_ options: Options, log: Logger, termination: Termination) throws {
        do {
            let file = try FileDevice(
                path: FilePath(options.path), excludesWriters: !options.sharesWithWriters)
            if options.sharesWithWriters {
                log.warning("without locks: if another program writes to the image, what is read makes no sense")
            }
            let format = try options.format ?? ImageProbe.detect(file)
            if options.format == nil { log.info("found format \(format.rawValue)") }
            switch format {
            case .raw:
                if (try? ImageProbe.detect(file)) == .qcow2 {
                    log.warning("the contents look like qcow2 and are served as they are, as -f raw says")
                }
                if file.size % 512 != 0 {
                    log.warning(
                        "\(file.size) bytes are not whole sectors of 512: qemu-img may hang at the end; use nbdcopy")
                }
                disk = file
                description = "raw"
            case .qcow2:
                guard let header = try Qcow2Header(device: file) else {
                    throw FormatError.notRecognised(
                        "the file is not qcow2; leave -f out, or say -f raw if it is a plain disk image")
                }
                (disk, description) = try Self.openQcow2(file, header, options, log, termination)
            }
        } catch let error as FormatError {
            throw Failure(error, image: options.path)
        }
    }

    private static func openQcow2(
        _ file: FileDevice, _ header: Qcow2Header, _ options: Options, _ log: Logger,
        _ termination: Termination
    ) throws -> (disk: any BlockDevice, description: String) {
        try Qcow2Support.check(header)
        do { try Qcow2Census.checkL1(file: file, header: header) } catch {
            guard options.allowsDamage else { throw error }
            log.warning("\(error)")
        }
        for feature in [Qcow2Features.Incompatible.dirty, .corrupt] where header.features.contains(feature) {
            log.warning(
                "the image has its \(feature.name) set: it was not closed properly; compare what you read with a backup"
            )
        }
        guard header.encryption != .none else {
            if case .prompt = options.secret {
            } else {
                log.warning("the image is not encrypted: \(options.secret.name) is not used")
            }
            return (Qcow2Image(file: file, header: header, cipher: nil), "qcow2, not encrypted")
        }
        let disk = try LegacyAESOpener(file: file, header: header, options: options, log: log).open(termination)
        return (AlignedDevice(disk), "qcow2, AES-128, decrypted")
    }
}
