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
        /// The file with a detached LUKS header; nil: the image holds its own.
        let luksHeader: String?
        let unlock: LUKSUnlock.Options
        let checksPassphrase: Bool
        let allowsDamage: Bool
        /// Read an image that another program may be writing to.
        let sharesWithWriters: Bool
    }

    /// Opens the image and everything in it.
    /// - Throws: ``Failure``.
    init(_ options: Options, ring: SecretRing, log: Logger) throws {
        let opener = ImageOpener(options: options, ring: ring, log: log)
        do {
            let file = try FileDevice(path: FilePath(options.path), excludesWriters: !options.sharesWithWriters)
            if options.sharesWithWriters {
                log.warning("without locks: if another program writes to the image, what is read makes no sense")
            }
            if let header = options.luksHeader {
                (disk, description) = try opener.openDetached(file, header: header)
            } else {
                (disk, description) = try opener.open(file)
            }
            ring.warnUnlessKeysAreLocked()
        } catch let error as FormatError {
            throw Failure(error, image: options.path)
        }
    }
}

/// Opens one layer after the other.
private struct ImageOpener {
    typealias Opened = (disk: any BlockDevice, description: String)

    let options: DeviceStack.Options
    let ring: SecretRing
    let log: Logger

    func open(_ file: FileDevice) throws -> Opened {
        let format = try options.format ?? ImageProbe.detect(file)
        if options.format == nil { log.info("found format \(format.rawValue)") }
        switch format {
        case .raw:
            return openRaw(file)
        case .luks:
            return try luks(options.path).open(header: file, data: file)
        case .qcow2:
            let (disk, description) = try openQcow2(file)
            // A start that cannot be read holds nothing that can be opened; clients may read the rest.
            guard let holdsLUKS = try? ImageProbe.holdsLUKS(disk), holdsLUKS else {
                warnOfUnusedSecrets(description)
                return (disk, description)
            }
            // Whoever names the format wants what is in it, as it is.
            guard options.format == nil else {
                log.warning(
                    "the guest disk holds a LUKS container and is served as it is, as -f qcow2 says; leave -f out to decrypt it"
                )
                return (disk, description)
            }
            let (inner, innerDescription) = try luks("the LUKS container in \(options.path)").open(
                header: disk, data: disk)
            return (inner, "\(innerDescription), in \(description)")
        }
    }

    /// A file with a LUKS header, and the data in another one, which may be a qcow2 image.
    func openDetached(_ file: FileDevice, header: String) throws -> Opened {
        let format = options.format ?? ((try? ImageProbe.detect(file)) == .qcow2 ? .qcow2 : .luks)
        let (data, container): (any BlockDevice, String?) =
            switch format {
            case .raw, .luks: (file, nil)
            case .qcow2: try openQcow2(file)
            }
        let headerFile: FileDevice
        do {
            headerFile = try FileDevice(path: FilePath(header), excludesWriters: !options.sharesWithWriters)
            // Refused under the name of the file that is wrong.
            _ = try LUKSOpener.header(headerFile, dataSize: data.size, isDetached: true)
        } catch {
            throw Failure(error, image: header)
        }
        let (disk, description) = try luks(options.path).open(header: headerFile, data: data)
        return (disk, container.map { "\(description), in \($0)" } ?? description)
    }

    private func luks(_ name: String) -> LUKSOpener {
        LUKSOpener(name: name, ring: ring, options: options.unlock, log: log)
    }

    private func openRaw(_ file: FileDevice) -> Opened {
        if let found = try? ImageProbe.detect(file), found != .raw {
            log.warning("the contents look like \(found.rawValue) and are served as they are, as -f raw says")
        }
        if file.size % 512 != 0 {
            log.warning("\(file.size) bytes are not whole sectors of 512: qemu-img may hang at the end; use nbdcopy")
        }
        warnOfUnusedSecrets("raw")
        return (file, "raw")
    }

    private func openQcow2(_ file: FileDevice) throws -> Opened {
        guard let header = try Qcow2Header(device: file) else {
            throw FormatError.notRecognised(
                "the file is not qcow2; leave -f out, or say -f raw if it is a plain disk image")
        }
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
        switch header.encryption {
        case .none:
            return (Qcow2Image(file: file, header: header, cipher: nil), "qcow2, not encrypted")
        case .legacyAES:
            let disk = try LegacyAESOpener(file: file, header: header, options: options, ring: ring, log: log).open()
            return (AlignedDevice(disk), "qcow2, AES-128, decrypted")
        case .luks:
            let (cipher, description) = try luks(options.path).cipher(qcow2Header: header.luksWindow(in: file))
            let disk = Qcow2Image(file: file, header: header, cipher: cipher)
            return (AlignedDevice(disk), "qcow2, \(description)")
        }
    }

    private func warnOfUnusedSecrets(_ description: String) {
        guard description.hasSuffix("raw") || description.hasSuffix("not encrypted"), let names = ring.names else {
            return
        }
        log.warning("the image is not encrypted: \(names) is not used")
    }
}
