// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats

/// Opens an image and the images below it, each with the secret that fits.
struct ImageOpener {
    let options: OpeningOptions
    let ring: SecretRing
    let log: OpeningLog
    /// Nothing is unlocked: where the data lies can be told, what is encrypted cannot be read.
    let isSealed: Bool
    /// Of all images that it opens.
    let cache = ImageCache()

    init(options: OpeningOptions, ring: SecretRing, log: OpeningLog, isSealed: Bool = false) {
        self.isSealed = isSealed
        self.options = options
        self.ring = ring
        self.log = log
    }

    /// Opens the image that the caller named, and all that it stands on.
    /// - Throws: ``FormatError`` or ``OpeningError``.
    func open(_ image: OpenImage) throws -> ImageLayer {
        if let breakage = image.chain.breakage { throw breakage }
        if let header = image.luksHeader { return try openDetached(image.chain, header) }
        if image.format == .raw { warnOfRaw(image.source.device) }
        return try open(image.chain)
    }

    /// Opens the bottom first: every layer is given the one below.
    private func open(_ chain: ImageChain) throws -> ImageLayer {
        var layers: [ImageLayer] = []
        for link in chain.links.reversed() {
            do { layers.insert(try open(link, over: layers), at: 0) } catch let error as FormatError {
                throw link.number == 0 ? error : error.naming("layer \(link.number) (\(link.name))")
            }
        }
        return layers[0]
    }

    /// Opens data whose LUKS header is in a file of its own; the data may be in a qcow2 image, and in a part of the disk.
    private func openDetached(_ chain: ImageChain, _ header: DetachedHeader) throws -> ImageLayer {
        let top = chain.links[0]
        let container: ImageLayer? =
            switch top.kind {
            case .raw, .luks: nil
            case .qcow, .qcow2: try open(chain)
            }
        let part = try PartSelection(options, log).detachedData(
            on: container?.disk ?? top.source.device, container?.description ?? "the disk", said: options.format)
        let data = part.device
        do {
            // Refused under the name of the file that is wrong.
            _ = try LUKSOpener.header(header.source.device, dataSize: data.size, isDetached: true)
        } catch {
            throw OpeningError(error, image: header.name)
        }
        let isPart = options.selection.isPartOfDisk
        let (disk, encryption) = try luks(isPart ? part.fullName : options.name, layer: 0).open(
            header: header.source.device, data: data)
        return ImageLayer(
            name: options.name, format: .luks, encryption: isPart ? "\(encryption), in \(part.name)" : encryption,
            disk: disk, below: container?.below ?? [], snapshots: [])
    }

    /// Opens what lies on the disks.
    var containers: ContainerOpener {
        var opener = ContainerOpener(
            ring: ring, options: options.unlock, log: log, allowsDiscards: options.allowsDiscards)
        opener.isSealed = isSealed
        return opener
    }

    private func open(_ link: ImageChain.Link, over below: [ImageLayer]) throws -> ImageLayer {
        switch link.kind {
        case .raw:
            return ImageLayer(
                name: link.name, format: .raw, encryption: nil, disk: link.source.device, below: [], snapshots: [])
        case .luks:
            let (disk, encryption) = try luks(link.name, layer: link.number).open(
                header: link.source.device, data: link.source.device)
            return ImageLayer(
                name: link.name, format: .luks, encryption: encryption, disk: disk, below: [], snapshots: [])
        case .qcow(let header): return try open(link, header, over: below)
        case .qcow2(let header): return try open(link, header, over: below)
        }
    }

    // MARK: qcow2 and qcow

    private func open(
        _ link: ImageChain.Link, _ header: Qcow2Header, over below: [ImageLayer]
    ) throws -> ImageLayer {
        try allowingDamage(link) { () throws(FormatError) in
            try MappedCensus.checkL1(file: link.source.device, header: header)
        }
        warnOfRaggedEnd(link, size: header.size, virtualSize: header.virtualSize)
        let isWritable = link.number == 0 && options.isWritable
        // What is repaired is told then.
        for mark in header.marks where !isWritable { log.warning("\(link.shown)\(mark)") }
        let (cipher, encryption) = try cipher(link, header)
        let header =
            try isWritable
            ? ImageRepair(isWanted: options.repairs, log: log).header(
                of: link.source.device, header, dataFile: link.dataFile?.device, name: link.shown) : header
        func image(_ mapping: Qcow2Mapping) -> any BlockDevice {
            AlignedDevice.lifting(
                Qcow2Image(
                    file: link.source.device, header: header, mapping: mapping, cipher: cipher,
                    dataFile: link.dataFile?.device,
                    backing: below.first?.disk, cache: cache))
        }
        // Only of the image that the caller named: the others are there for its sake.
        let snapshots =
            link.number == 0 && options.wantsSnapshots ? try Qcow2Snapshot.all(of: link.source.device, header) : []
        let disk =
            isWritable
            ? AlignedDevice.lifting(
                try Qcow2Image(
                    writing: link.source.device, header: header, cipher: cipher, dataFile: link.dataFile?.device,
                    backing: below.first?.disk, cache: cache))
            : image(header.mapping)
        return ImageLayer(
            name: link.name, format: .qcow2, encryption: encryption, disk: disk, below: below,
            snapshots: snapshots.map { ImageLayer.Snapshot(id: $0.id, name: $0.name, disk: image($0.mapping)) },
            bitmaps: link.number == 0 ? bitmaps(of: link.source.device, header, isWritable: isWritable) : [])
    }

    /// The disk can be served without them; and must be, when writes to it would have to be in them.
    private func bitmaps(of file: any BlockDevice, _ header: Qcow2Header, isWritable: Bool) -> [Qcow2Bitmap] {
        if let warning = Qcow2Bitmap.warning(header) { log.warning("\(warning)") }
        do {
            let bitmaps = try Qcow2Bitmap.all(of: file, header, cache: cache)
            guard isWritable else { return bitmaps }
            for bitmap in bitmaps where bitmap.isEnabled && !bitmap.isInconsistent {
                log.warning(
                    "its dirty bitmap \(ShownText.quoted(bitmap.name)) is marked as not up to date by the first write: nobody goes on with it here; make a backup that starts anew"
                )
            }
            return bitmaps.filter { !$0.isEnabled }
        } catch {
            log.warning("its dirty bitmaps are not offered: \(error)")
            return []
        }
    }

    private func cipher(
        _ link: ImageChain.Link, _ header: Qcow2Header
    ) throws -> (cipher: (any SectorCipher)?, encryption: String?) {
        switch header.encryption {
        case .none: return (nil, nil)
        case .legacyAES:
            // Without the layers below: only what this one has encrypted can tell.
            let cipher = try legacyAES(link) { cipher in
                Qcow2Image(file: link.source.device, header: header, cipher: cipher, dataFile: link.dataFile?.device)
            }
            return (cipher, "AES-128")
        case .luks:
            let (cipher, encryption) = try luks(link.name, layer: link.number).cipher(
                qcow2Header: header.luksWindow(in: link.source.device))
            return (cipher, encryption)
        }
    }

    private func open(
        _ link: ImageChain.Link, _ header: QcowHeader, over below: [ImageLayer]
    ) throws -> ImageLayer {
        try allowingDamage(link) { () throws(FormatError) in
            try MappedCensus.checkL1(file: link.source.device, header: header)
        }
        warnOfRaggedEnd(link, size: header.size, virtualSize: header.virtualSize)
        let cipher: (any SectorCipher)? =
            if header.encryption == .legacyAES {
                try legacyAES(link) { QcowImage(file: link.source.device, header: header, cipher: $0, backing: nil) }
            } else { nil }
        let image = QcowImage(
            file: link.source.device, header: header, cipher: cipher, backing: below.first?.disk, cache: cache)
        return ImageLayer(
            name: link.name, format: .qcow, encryption: cipher == nil ? nil : "AES-128",
            disk: AlignedDevice.lifting(image), below: below, snapshots: [])
    }

    private func allowingDamage(_ link: ImageChain.Link, _ check: () throws(FormatError) -> Void) throws(FormatError) {
        do { try check() } catch {
            guard options.allowsDamage else { throw error }
            log.warning("\(link.shown)\(error)")
        }
    }

    private func legacyAES(
        _ link: ImageChain.Link, _ disk: @escaping (LegacyAESCipher) -> any BlockDevice
    ) throws -> any SectorCipher {
        guard !isSealed else { return SealedCipher() }
        return try LegacyAESOpener(
            name: link.name, layer: link.number, ring: ring, checksPassphrase: options.checksPassphrase,
            log: log, disk: disk
        ).open()
    }

    private func luks(_ name: String, layer: Int) -> LUKSOpener {
        containers.opener(name, own: .passphraseOfLayer(layer))
    }

    /// QEMU does the same.
    private func warnOfRaggedEnd(_ link: ImageChain.Link, size: UInt64, virtualSize: UInt64) {
        guard link.number == 0, size > virtualSize else { return }
        log.warning(
            "the header says \(size) bytes; the last \(size - virtualSize) are less than a sector of 512, and no part of the disk, as in QEMU"
        )
    }

    private func warnOfRaw(_ file: any BlockDevice) {
        if file.size % 512 != 0 {
            log.warning("\(file.size) bytes are not whole sectors of 512: qemu-img may hang at the end; use nbdcopy")
        }
    }
}
