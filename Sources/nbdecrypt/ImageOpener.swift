// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats
import Logging
import SystemPackage

/// Opens an image and the images below it, each with the secret that fits.
struct ImageOpener {
    let options: DeviceStack.Options
    let ring: SecretRing
    let log: Logger
    private let cache = ImageCache()

    init(options: DeviceStack.Options, ring: SecretRing, log: Logger) {
        self.options = options
        self.ring = ring
        self.log = log
    }

    /// QEMU has no limit; nobody has needed more.
    static let maximumDepth = 64

    /// A file of the chain that is being opened.
    private struct Place {
        let file: FileDevice
        let path: FilePath
        /// 0 is the top.
        let number: Int
        /// All files from the top down to this one.
        let files: [FileDevice.Identity]
    }

    /// Opens the image that the caller named, and all that it stands on.
    /// - Throws: ``FormatError`` or ``Failure``.
    func open(_ file: FileDevice) throws -> ImageLayer {
        let format = try options.format ?? ImageProbe.detect(file)
        if options.format == nil { log.info("found format \(format.rawValue)") }
        let place = Place(file: file, path: FilePath(options.path), number: 0, files: [file.identity])
        if format == .raw { warnOfRaw(file) }
        return try open(place, format)
    }

    /// Opens data whose LUKS header is in a file of its own; the data may be in a qcow2 image.
    func openDetached(_ file: FileDevice, header path: String) throws -> ImageLayer {
        let found = options.format ?? ((try? ImageProbe.detect(file)) == .qcow2 ? .qcow2 : .luks)
        let place = Place(file: file, path: FilePath(options.path), number: 0, files: [file.identity])
        let container = found == .raw || found == .luks ? nil : try open(place, found)
        let data = container?.disk ?? file
        let header: FileDevice
        do {
            header = try FileDevice(path: FilePath(path), excludesWriters: !options.sharesWithWriters)
            // Refused under the name of the file that is wrong.
            _ = try LUKSOpener.header(header, dataSize: data.size, isDetached: true)
        } catch {
            throw Failure(error, image: path)
        }
        let (disk, encryption) = try luks(options.path, layer: 0).open(header: header, data: data)
        return ImageLayer(
            path: options.path, format: .luks, encryption: encryption, disk: disk, below: container?.below ?? [],
            snapshots: [])
    }

    /// The LUKS container that a disk holds, decrypted.
    ///
    /// - Parameter mayAsk: a person may be asked for its passphrase.
    func openContainer(
        on disk: any BlockDevice, _ name: String, mayAsk: Bool = true
    ) throws -> (disk: any BlockDevice, encryption: String) {
        guard mayAsk || ring.names != nil else {
            throw Failure(.wrongPassphrase, "\(name) holds a LUKS container, and no secret is given")
        }
        let (device, encryption) = try luks(name, layer: nil).open(header: disk, data: disk)
        return (device, encryption)
    }

    private func open(_ place: Place, _ format: ImageFormat) throws -> ImageLayer {
        do {
            switch format {
            case .raw:
                return ImageLayer(
                    path: place.path.string, format: .raw, encryption: nil, disk: place.file, below: [], snapshots: [])
            case .luks:
                let (disk, encryption) = try luks(place.path.string, layer: place.number).open(
                    header: place.file, data: place.file)
                return ImageLayer(
                    path: place.path.string, format: .luks, encryption: encryption, disk: disk, below: [],
                    snapshots: [])
            case .qcow2: return try openQcow2(place)
            case .qcow: return try openQcow(place)
            }
        } catch let error as FormatError where place.number > 0 {
            throw error.naming("layer \(place.number) (\(place.path))")
        }
    }

    // MARK: qcow2 and qcow

    private func openQcow2(_ place: Place) throws -> ImageLayer {
        guard let header = try Qcow2Header(device: place.file) else { throw Self.isNot(.qcow2) }
        try Qcow2Support.check(header)
        do { try Qcow2Census.checkL1(file: place.file, header: header) } catch {
            guard options.allowsDamage else { throw error }
            log.warning("\(error)")
        }
        for feature in [Qcow2Features.Incompatible.dirty, .corrupt] where header.features.contains(feature) {
            log.warning(
                "the image has its \(feature.name) set: it was not closed properly; compare what you read with a backup"
            )
        }
        let dataFile = try openDataFile(place, header)
        let below = try openBacking(place, header.backingFile, header.extensions.backingFormat)
        let (cipher, encryption) = try cipher(place, header, dataFile)
        func image(_ mapping: Qcow2Mapping) -> any BlockDevice {
            let image = Qcow2Image(
                file: place.file, header: header, mapping: mapping, cipher: cipher, dataFile: dataFile,
                backing: below.first?.disk, cache: cache)
            return image.alignment > 1 ? AlignedDevice(image) : image
        }
        // Only of the image that the caller named: the others are there for its sake.
        let snapshots = place.number == 0 && options.wantsSnapshots ? try Qcow2Snapshot.all(of: place.file, header) : []
        return ImageLayer(
            path: place.path.string, format: .qcow2, encryption: encryption, disk: image(header.mapping), below: below,
            snapshots: snapshots.map {
                ImageLayer.Snapshot(id: $0.id, name: $0.name, disk: image($0.mapping))
            })
    }

    private func cipher(
        _ place: Place, _ header: Qcow2Header, _ dataFile: FileDevice?
    ) throws -> (cipher: (any SectorCipher)?, encryption: String?) {
        switch header.encryption {
        case .none: return (nil, nil)
        case .legacyAES:
            let opener = LegacyAESOpener(
                name: place.path.string, layer: place.number, ring: ring, checksPassphrase: options.checksPassphrase,
                log: log
            ) { cipher in
                // Without the layers below: only what this one has encrypted can tell.
                Qcow2Image(file: place.file, header: header, cipher: cipher, dataFile: dataFile)
            }
            return (try opener.open(), "AES-128")
        case .luks:
            let (cipher, encryption) = try luks(place.path.string, layer: place.number).cipher(
                qcow2Header: header.luksWindow(in: place.file))
            return (cipher, encryption)
        }
    }

    private func openQcow(_ place: Place) throws -> ImageLayer {
        guard let header = try QcowHeader(device: place.file) else { throw Self.isNot(.qcow) }
        do { try QcowCensus.checkL1(file: place.file, header: header) } catch {
            guard options.allowsDamage else { throw error }
            log.warning("\(error)")
        }
        let below = try openBacking(place, header.backingFile, nil)
        var cipher: (any SectorCipher)?
        if header.encryption == .legacyAES {
            cipher = try LegacyAESOpener(
                name: place.path.string, layer: place.number, ring: ring, checksPassphrase: options.checksPassphrase,
                log: log
            ) { cipher in
                QcowImage(file: place.file, header: header, cipher: cipher, backing: nil)
            }.open()
        }
        let image = QcowImage(
            file: place.file, header: header, cipher: cipher, backing: below.first?.disk, cache: cache)
        return ImageLayer(
            path: place.path.string, format: .qcow, encryption: cipher == nil ? nil : "AES-128",
            disk: image.alignment > 1 ? AlignedDevice(image) : image, below: below, snapshots: [])
    }

    private static func isNot(_ format: ImageFormat) -> FormatError {
        .notRecognised("the file is not \(format.rawValue); leave -f out, or say -f raw if it is a plain disk image")
    }

    // MARK: Files that an image names

    private func openDataFile(_ place: Place, _ header: Qcow2Header) throws -> FileDevice? {
        guard header.features.contains(.externalDataFile), let reference = header.extensions.dataFile else {
            return nil
        }
        let (file, path) = try options.references.open(
            reference, "external data file", of: place.path, excludesWriters: !options.sharesWithWriters)
        guard !place.files.contains(file.identity) else {
            throw FormatError.unsupported("the external data file (\(reference.shown)) is an image of the chain itself")
        }
        log.info("layer \(place.number): external data file \(path)")
        return file
    }

    /// The layer below and those below it; empty when there is none.
    private func openBacking(_ place: Place, _ reference: FileReference?, _ format: String?) throws -> [ImageLayer] {
        guard let reference else { return [] }
        guard place.number + 1 < Self.maximumDepth else {
            throw FormatError.unsupported(
                "the chain of backing files is longer than \(Self.maximumDepth); shorten it with qemu-img rebase")
        }
        let (file, path) = try options.references.open(
            reference, "backing file", of: place.path, excludesWriters: !options.sharesWithWriters)
        guard !place.files.contains(file.identity) else {
            throw FormatError.damaged(
                "backing file", at: 8, found: "\(reference.shown), which is above itself in the chain",
                allowed: "another file", advice: "name the right one with qemu-img rebase -u in a copy")
        }
        let backingFormat = try self.format(of: file, format, reference)
        log.info("layer \(place.number + 1): backing file \(path), format \(backingFormat.rawValue)")
        let layer = try open(
            Place(file: file, path: path, number: place.number + 1, files: place.files + [file.identity]), backingFormat
        )
        return [layer] + layer.below
    }

    /// The format of a backing file: what the image says, what the caller says, or else raw. It is never guessed: a guest
    /// that owns a raw disk can write the header of any format to it.
    private func format(of file: FileDevice, _ name: String?, _ reference: FileReference) throws -> ImageFormat {
        switch name {
        case "file"?, "host_device"?: return .raw
        case let name?:
            guard let format = ImageFormat(rawValue: name) else {
                throw FormatError.unsupported(
                    "the backing file (\(reference.shown)) has the format \(name), which nbdecrypt does not read; "
                        + "make a copy that stands alone with qemu-img convert")
            }
            return format
        case nil:
            if let format = options.backingFormat { return format }
            let looks = (try? ImageProbe.detect(file)).map { ", though it looks like \($0.rawValue)" } ?? ""
            let sentence =
                "the image does not say which format its backing file (\(reference.shown)) has: it is read as raw\(looks); "
                + "say --backing-format to have it otherwise"
            log.warning("\(sentence)")
            return .raw
        }
    }

    private func luks(_ name: String, layer: Int?) -> LUKSOpener {
        LUKSOpener(name: name, layer: layer, ring: ring, options: options.unlock, log: log)
    }

    private func warnOfRaw(_ file: FileDevice) {
        if let found = try? ImageProbe.detect(file), found != .raw {
            log.warning("the contents look like \(found.rawValue) and are served as they are, as -f raw says")
        }
        if file.size % 512 != 0 {
            log.warning("\(file.size) bytes are not whole sectors of 512: qemu-img may hang at the end; use nbdcopy")
        }
    }
}
