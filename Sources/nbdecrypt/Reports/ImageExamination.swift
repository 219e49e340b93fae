// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import ImageFormats

/// Finds out what `nbdecrypt info` says of an image.
struct ImageExamination {
    /// What has been found out.
    var report: InfoReport
    /// What the image, or the part of its disk that this is about, is encrypted in; for the passphrase check.
    private(set) var container = EncryptedContainer.none
    /// A container around the part was opened.
    private(set) var isPartDecrypted = false
    private let source: OpenSource
    private let sources: SourceOpener
    private let part: PartSelection
    private let volume: String?
    private let opener: ContainerOpener
    private let plaintext: LUKSPlaintext.Permissions
    private var isPartExamined = false
    private var isVolumeExamined = false

    /// Examines the tables of `source`, which no data is read from, but for the place where a guest's LUKS header would be.
    ///
    /// - Parameters:
    ///   - luksHeader: where a detached LUKS header is.
    ///   - sources: opens that.
    ///   - plaintext: what of a LUKS container may be in the clear.
    ///   - part: what of the disk it is about.
    ///   - volume: the logical volume of that which it is about; nil: all.
    ///   - opener: opens containers around the logical volume.
    init(
        _ source: OpenSource, format: ImageFormat?, luksHeader: ImageSource?, sources: SourceOpener,
        plaintext: LUKSPlaintext.Permissions, part: PartSelection, volume: String?, opener: ContainerOpener
    ) throws {
        self.source = source
        self.sources = sources
        self.plaintext = plaintext
        let file = source.device
        self.part = part
        self.volume = volume
        self.opener = opener
        var refusal: String?
        var found: ImageFormat
        if let format {
            found = format
        } else if luksHeader != nil {
            found = try FormatDecision.ofDetachedData(file, said: nil)
        } else {
            do throws(FormatError) { found = try ImageProbe.detect(file) } catch {
                // What it is when it is a plain disk helps to say so; of what is left of LUKS nobody knows what it is.
                guard error.code == .notRecognised, try ImageProbe.findLUKS(file) == .none,
                    !DiskReport(file, sectorSize: part.sectorSize, served: "").isEmpty || part.isPart
                else { throw error }
                found = .raw
                refusal = error.worded
            }
        }
        report = InfoReport(
            image: source.name, format: refusal == nil ? found.rawValue : "unknown", fileSize: file.size,
            encryption: .init(.none, source.name), refusal: refusal)
        switch found {
        case .raw where luksHeader != nil, .luks where luksHeader != nil:
            let said = format.map { [Remedy.format($0.rawValue)] } ?? []
            try luksHeader.map { try examine(file, header: $0, said: format, options: said) }
        case .raw:
            report.virtualSize = file.size
            try examine(file, options: [.format("raw")])
        case .qcow: try examineQcow(file, luksHeader)
        case .luks: take(try LUKSContainer(source: source))
        case .qcow2: try examineQcow2(file, luksHeader)
        }
        let isUnseen = part.isPart && !isPartExamined
        if let volume, !isVolumeExamined, !isUnseen, let inside = try opened() {
            isPartDecrypted = true
            try examine(volume, on: inside.disk, options: inside.options)
        }
        guard !isUnseen, volume == nil || isVolumeExamined else {
            throw Failure(
                .usage,
                "\(source.name): info decrypts nothing but for --logical-volume, and opens no other file, so it does not see the parts of this disk; serve them"
            )
        }
    }

    /// The disk in the container that was found, by the secrets that there are; nil when nothing is encrypted, or when
    /// other files are a part of it.
    private func opened() throws -> (disk: any BlockDevice, options: [Remedy])? {
        guard report.backingFile == nil, report.dataFile == nil else { return nil }
        switch container {
        case .none: return nil
        case .luks(let found):
            if let refusal = report.refusal { throw FormatError.unsupported(Sentence(refusal)) }
            let keys = try opener.keys(of: found, report.image)
            return try found.disk(keys, allowing: plaintext).map { ($0, found.remedies) }
        case .legacyAES(let disk):
            let cipher = try opener.cipher(report.image, disk)
            return (AlignedDevice.lifting(disk(cipher)), [])
        }
    }

    /// Shows the disk in the container that was found, which the secrets of a check have opened.
    mutating func show(decryptedBy check: PassphraseCheck) {
        guard check.mayFit, report.backingFile == nil, report.dataFile == nil else { return }
        let disk: (any BlockDevice)?
        var options: [Remedy] = []
        switch container {
        case .none: return
        case .luks(let found):
            disk = (try? found.disk(check.opened, allowing: plaintext)) ?? nil
            options = found.remedies
        case .legacyAES(let make): disk = check.cipher.map { AlignedDevice.lifting(make($0)) }
        }
        report.decrypted = disk.map { DiskReport($0, sectorSize: part.sectorSize, served: served(options)) }
    }

    /// Examines a logical volume.
    ///
    /// - Parameter options: what `serve` needs for the disk that its physical volumes are on.
    private mutating func examine(_ volume: String, on disk: any BlockDevice, options: [Remedy]) throws {
        isVolumeExamined = true
        let (found, isInContainer) = try LogicalVolumes(part, opener: opener).find(volume, on: disk)
        isPartDecrypted = isPartDecrypted || isInContainer
        report.part = found.title
        report.virtualSize = found.device.size
        let options = options + [.logicalVolume(volume)]
        container = .none
        report.luks = nil
        guard let inside = try LUKSContainer(part: found, choices: options) else {
            report.encryption = .init(
                method: "none",
                description: isPartDecrypted ? "none of the volume itself, which is in a container" : "none")
            report.disk = DiskReport(
                found.device, name: found.name, sectorSize: part.sectorSize, served: served(options))
            return
        }
        take(inside)
    }

    /// What `serve` is told with some options.
    private func served(_ options: [Remedy]) -> String { ShellText.fileArgument(report.image) + options.arguments }

    /// Examines a container whose header is in a file of its own, and whose data is a disk that can be read without a key, or
    /// the part of it that is wanted.
    ///
    /// - Parameters:
    ///   - said: the format of the image; nil: it was found out.
    ///   - options: what `serve` needs for the disk.
    private mutating func examine(
        _ disk: any BlockDevice, header: ImageSource, said: ImageFormat?, options: [Remedy]
    ) throws {
        isPartExamined = true
        let data = try part.detachedData(on: disk, "the disk", said: said)
        if part.isPart { report.part = data.title }
        take(
            try LUKSContainer(
                data: data, isInFile: source.isFile && data.device === source.device, header: header, by: sources,
                choices: options + part.choices))
    }

    /// Examines a disk that can be read without a key, or the part of it that is wanted.
    ///
    /// - Parameter options: what `serve` needs for the disk.
    private mutating func examine(_ device: any BlockDevice, options: [Remedy]) throws {
        var device = AlignedDevice.lifting(device)
        let options = options + part.choices
        guard part.isPart || volume != nil else {
            let disk = DiskReport(device, sectorSize: part.sectorSize, served: served(options))
            report.disk = disk
            if !disk.encrypted.isEmpty, report.encryption.method == "none" {
                let names = disk.encrypted.map(\.name).joined(separator: ", ")
                report.encryption = .init(method: "none", description: "none of the disk itself; LUKS in \(names)")
            }
            return
        }
        isPartExamined = true
        let steps = try part.steps(on: device)
        var name = "the disk"
        for (index, step) in steps.enumerated() {
            let found = try part.part(step, of: device, report.format)
            device = found.device
            report.virtualSize = device.size
            name = found.name
            let isLast = index == steps.count - 1
            report.part = isLast ? found.title : report.part
            if let container = try LUKSContainer(part: found, choices: options) {
                if isLast, let volume {
                    isPartDecrypted = true
                    let inside = try opener.open(on: found.device, found.fullName).disk
                    return try examine(volume, on: inside, options: options)
                }
                guard isLast else {
                    throw Failure(
                        .usage, "\(found.fullName) is encrypted, and info decrypts nothing: leave out the other options"
                    )
                }
                return take(container)
            }
        }
        if let volume { return try examine(volume, on: device, options: options) }
        report.disk = DiskReport(device, name: name, sectorSize: part.sectorSize, served: served(options))
    }

    private mutating func examineQcow2(_ file: any BlockDevice, _ luksHeader: ImageSource?) throws {
        guard let header = try Qcow2Header(device: file) else { throw FormatDecision.isNot(.qcow2) }
        report.virtualSize = header.virtualSize
        report.headerSize = header.size == header.virtualSize ? nil : header.size
        report.version = header.version
        report.clusterSize = header.clusterSize
        report.compression = header.compression == .deflate ? "deflate" : "zstd"
        report.refcountBits = 1 << header.refcountOrder
        let names = header.features.names(header.extensions.featureNames)
        report.features = .init(
            incompatible: names.incompatible, compatible: names.compatible, autoclear: names.autoclear)
        report.backingFile = header.backingFile?.shown
        report.backingFormat = header.extensions.backingFormat
        report.dataFile = header.extensions.dataFile?.shown
        report.snapshots = header.snapshotCount
        report.encryption = .init(header.encryption, report.image)
        do { try Qcow2Support.check(header) } catch { report.refusal = error.worded }
        switch header.encryption {
        case .none:
            // Of a disk that other files are part of, nothing can be told: none of them is opened.
            guard report.refusal == nil, header.backingFile == nil, !header.features.contains(.externalDataFile) else {
                break
            }
            let disk = Qcow2Image(file: file, header: header, cipher: nil)
            if let luksHeader {
                try examine(disk, header: luksHeader, said: nil, options: [])
            } else if !part.isPart, let inside = try LUKSContainer(guestDisk: disk) {
                take(inside)
            } else if part.isPart, (try? ImageProbe.holdsLUKS(disk)) == true {
                break
            } else {
                try examine(disk, options: [])
            }
            if report.luks == nil, case .leftover(let contents)? = try? ImageProbe.findLUKS(disk) {
                report.encryption = .init(
                    method: "none",
                    description: "none; behind \(contents) a second copy of a LUKS2 header is left, which is ignored")
            }
        case .legacyAES:
            container = .legacyAES { Qcow2Image(file: file, header: header, cipher: $0) }
        case .luks: take(try LUKSContainer(qcow2: header, file: file))
        }
        // What is not known may change what a table looks like.
        guard header.features.unknownIncompatibleBits.isEmpty else { return }
        report.clusters = .init(try MappedCensus(file: file, header: header))
    }

    private mutating func examineQcow(_ file: any BlockDevice, _ luksHeader: ImageSource?) throws {
        guard let header = try QcowHeader(device: file) else { throw FormatDecision.isNot(.qcow) }
        report.virtualSize = header.virtualSize
        report.headerSize = header.size == header.virtualSize ? nil : header.size
        report.version = 1
        report.clusterSize = header.clusterSize
        report.compression = "deflate"
        report.backingFile = header.backingFile?.shown
        if header.encryption == .legacyAES {
            report.encryption = .init(.legacyAES, report.image)
            container = .legacyAES { QcowImage(file: file, header: header, cipher: $0, backing: nil) }
        } else if header.backingFile == nil {
            let disk = QcowImage(file: file, header: header, cipher: nil, backing: nil)
            if let luksHeader {
                try examine(disk, header: luksHeader, said: nil, options: [])
            } else if let inside = try LUKSContainer(guestDisk: disk) {
                if !part.isPart { take(inside) }
            } else {
                try examine(disk, options: [])
            }
        }
        report.clusters = .init(try MappedCensus(file: file, header: header))
    }

    private mutating func take(_ container: LUKSContainer) {
        self.container = .luks(container)
        let luks = LUKSReport(container, path: report.image, allowing: plaintext)
        report.luks = luks
        report.virtualSize = luks.virtualSize
        report.refusal = report.refusal ?? luks.refusal
        report.encryption = .init(
            method: "luks",
            description: "LUKS\(luks.version), \(luks.cipher), "
                + (luks.place == "header alone" ? "a header without its data" : "in the \(luks.place)"))
    }
}
