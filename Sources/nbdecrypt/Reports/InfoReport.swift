// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import FoundationEssentials
import ImageFormats

/// What `nbdecrypt info` says of an image.
struct InfoReport: Report {
    struct Features: Encodable {
        let incompatible: [String]
        let compatible: [String]
        let autoclear: [String]
    }

    struct Encryption: Encodable {
        /// "none", "aes" or "luks".
        let method: String
        /// Cipher and key.
        let description: String
        /// What the owner should know.
        var weaknesses: [String] = []
        /// Commands that lead away from it.
        var nextSteps: [String] = []
    }

    struct Clusters: Encodable {
        let total: UInt64
        let allocated: UInt64
        let compressed: UInt64
        let zero: UInt64
        /// False when the image has more tables than were counted.
        let isComplete: Bool
        let faults: UInt64
        let firstFault: String?
    }

    let image: String
    let format: String
    /// In bytes.
    let fileSize: UInt64
    /// In bytes; nil when the image is not complete enough to tell.
    private(set) var virtualSize: UInt64?
    /// What the header says, in bytes, when the disk is smaller: whole sectors of 512 alone are served, as QEMU does.
    private(set) var headerSize: UInt64?
    private(set) var version: UInt32?
    /// In bytes.
    private(set) var clusterSize: UInt64?
    private(set) var compression: String?
    private(set) var refcountBits: Int?
    private(set) var features: Features?
    private(set) var backingFile: String?
    private(set) var backingFormat: String?
    private(set) var dataFile: String?
    private(set) var snapshots: UInt32?
    private(set) var encryption: Encryption
    /// The LUKS container of the image, or the one that a guest made on its disk.
    private(set) var luks: LUKSReport?
    private(set) var clusters: Clusters?
    /// Why `serve` refuses the image; nil when it does not.
    private(set) var refusal: String?
    /// What the given secrets open.
    var passphraseCheck: PassphraseCheck?
    /// What of the disk this is about; nil for all of it.
    private(set) var partName: String?
    /// What lies where, if no key is needed to see it.
    private(set) var disk: DiskReport?
    /// What lies where on the disk in the container that the given secrets open.
    private(set) var decrypted: DiskReport?
    /// A container around the part was opened.
    private(set) var isPartDecrypted = false
    private let volume: String?
    private let opener: ContainerOpener
    private let part: PartSelection
    private var isPartExamined = false
    private var isVolumeExamined = false
    private let plaintext: LUKSPlaintext.Permissions
    /// For the passphrase check.
    private(set) var container = EncryptedContainer.none

    private enum CodingKeys: String, CodingKey {
        case image, format, fileSize, virtualSize, headerSize, version, clusterSize, compression, refcountBits,
            features,
            backingFile, backingFormat
        case dataFile, snapshots, encryption, luks, clusters, refusal, passphraseCheck, disk, decrypted
        case partName = "part"
    }

    /// Examines the tables of `file`, which no data is read from, but for the place where a guest's LUKS header would be.
    ///
    /// - Parameters:
    ///   - luksHeader: the file with a detached LUKS header.
    ///   - plaintext: what of a LUKS container may be in the clear.
    ///   - part: what of the disk it is about.
    ///   - volume: the logical volume of that which it is about; nil: all.
    ///   - opener: opens containers around the logical volume.
    init(
        _ file: FileDevice, path: String, format: ImageFormat?, luksHeader: String?,
        plaintext: LUKSPlaintext.Permissions, part: PartSelection, volume: String?, opener: ContainerOpener
    ) throws {
        self.plaintext = plaintext
        self.part = part
        self.volume = volume
        self.opener = opener
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
                refusal = error.description
            }
        }
        image = path
        self.format = refusal == nil ? found.rawValue : "unknown"
        fileSize = file.size
        encryption = Self.encryption(.none, path)
        switch found {
        case .raw where luksHeader != nil, .luks where luksHeader != nil:
            let said = format.map { " -f \($0.rawValue)" } ?? ""
            try luksHeader.map { try examine(file, header: $0, said: format, options: said) }
        case .raw:
            virtualSize = file.size
            try examine(file, options: " -f raw")
        case .qcow: try examineQcow(file, luksHeader)
        case .luks: take(try LUKSContainer(file: file))
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
                "\(path): info decrypts nothing but for --logical-volume, and opens no other file, so it does not see the parts of this disk; serve them"
            )
        }
    }

    /// The disk in the container that was found, by the secrets that there are; nil when nothing is encrypted, or when
    /// other files are a part of it.
    private func opened() throws -> (disk: any BlockDevice, options: String)? {
        guard backingFile == nil, dataFile == nil else { return nil }
        switch container {
        case .none: return nil
        case .luks(let found):
            if let refusal { throw FormatError.unsupported(refusal) }
            let keys = try opener.keys(of: found, image)
            return try found.disk(keys, allowing: plaintext).map { ($0, found.options) }
        case .legacyAES(let disk):
            let cipher = try opener.cipher(image, disk)
            return (AlignedDevice.lifting(disk(cipher)), "")
        }
    }

    /// Shows the disk in the container that was found, which the secrets of a check have opened.
    mutating func show(decryptedBy check: PassphraseCheck) {
        guard check.mayFit, backingFile == nil, dataFile == nil else { return }
        let disk: (any BlockDevice)?
        var options = ""
        switch container {
        case .none: return
        case .luks(let found):
            disk = (try? found.disk(check.opened, allowing: plaintext)) ?? nil
            options = found.options
        case .legacyAES(let make): disk = check.cipher.map { AlignedDevice.lifting(make($0)) }
        }
        decrypted = disk.map { DiskReport($0, sectorSize: part.sectorSize, served: served(options)) }
    }

    /// Examines a logical volume.
    ///
    /// - Parameter options: what `serve` needs for the disk that its physical volumes are on.
    private mutating func examine(_ volume: String, on disk: any BlockDevice, options: String) throws {
        isVolumeExamined = true
        let (found, isInContainer) = try LogicalVolumes(part, opener: opener).find(volume, on: disk)
        isPartDecrypted = isPartDecrypted || isInContainer
        partName = found.title
        virtualSize = found.device.size
        let options = "\(options) --logical-volume \(ShellText.quoted(volume))"
        container = .none
        luks = nil
        guard let inside = try LUKSContainer(part: found, options: options) else {
            encryption = Encryption(
                method: "none",
                description: isPartDecrypted ? "none of the volume itself, which is in a container" : "none")
            self.disk = DiskReport(
                found.device, name: found.name, sectorSize: part.sectorSize, served: served(options))
            return
        }
        take(inside)
    }

    /// What `serve` is told with some options.
    private func served(_ options: String) -> String { ShellText.fileArgument(image) + options }

    /// Examines a container whose header is in a file of its own, and whose data is a disk that can be read without a key, or
    /// the part of it that is wanted.
    ///
    /// - Parameters:
    ///   - said: the format of the image; nil: it was found out.
    ///   - options: what `serve` needs for the disk.
    private mutating func examine(
        _ disk: any BlockDevice, header: String, said: ImageFormat?, options: String
    ) throws {
        isPartExamined = true
        let data = try part.detachedData(on: disk, "the disk", said: said)
        if part.isPart { partName = data.title }
        take(try LUKSContainer(data: data, header: header, options: options + part.serveOptions))
    }

    /// Examines a disk that can be read without a key, or the part of it that is wanted.
    ///
    /// - Parameter options: what `serve` needs for the disk.
    private mutating func examine(_ device: any BlockDevice, options: String) throws {
        var device = AlignedDevice.lifting(device)
        let options = options + part.serveOptions
        guard part.isPart || volume != nil else {
            let report = DiskReport(device, sectorSize: part.sectorSize, served: served(options))
            disk = report
            if !report.encrypted.isEmpty, encryption.method == "none" {
                let names = report.encrypted.map(\.name).joined(separator: ", ")
                encryption = Encryption(method: "none", description: "none of the disk itself; LUKS in \(names)")
            }
            return
        }
        isPartExamined = true
        let steps = try part.steps(on: device)
        var name = "the disk"
        for (index, step) in steps.enumerated() {
            let found = try part.part(step, of: device, format)
            device = found.device
            virtualSize = device.size
            name = found.name
            let isLast = index == steps.count - 1
            partName = isLast ? found.title : partName
            if let container = try LUKSContainer(part: found, options: options) {
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
        disk = DiskReport(device, name: name, sectorSize: part.sectorSize, served: served(options))
    }

    private mutating func examineQcow2(_ file: FileDevice, _ luksHeader: String?) throws {
        guard let header = try Qcow2Header(device: file) else {
            throw FormatError.notRecognised(
                "the file is not qcow2; leave -f out, or say -f raw if it is a plain disk image")
        }
        virtualSize = header.virtualSize
        headerSize = header.size == header.virtualSize ? nil : header.size
        version = header.version
        clusterSize = header.clusterSize
        compression = header.compression == .deflate ? "deflate" : "zstd"
        refcountBits = 1 << header.refcountOrder
        let names = header.features.names(header.extensions.featureNames)
        features = Features(
            incompatible: names.incompatible, compatible: names.compatible, autoclear: names.autoclear)
        backingFile = header.backingFile?.shown
        backingFormat = header.extensions.backingFormat
        dataFile = header.extensions.dataFile?.shown
        snapshots = header.snapshotCount
        encryption = Self.encryption(header.encryption, image)
        do { try Qcow2Support.check(header) } catch { refusal = error.description }
        switch header.encryption {
        case .none:
            // Of a disk that other files are part of, nothing can be told: none of them is opened.
            guard refusal == nil, header.backingFile == nil, !header.features.contains(.externalDataFile) else { break }
            let disk = Qcow2Image(file: file, header: header, cipher: nil)
            if let luksHeader {
                try examine(disk, header: luksHeader, said: nil, options: "")
            } else if !part.isPart, let inside = try LUKSContainer(guestDisk: disk) {
                take(inside)
            } else if part.isPart, (try? ImageProbe.holdsLUKS(disk)) == true {
                break
            } else {
                try examine(disk, options: "")
            }
            if luks == nil, case .leftover(let contents)? = try? ImageProbe.findLUKS(disk) {
                encryption = Encryption(
                    method: "none",
                    description: "none; behind \(contents) a second copy of a LUKS2 header is left, which is ignored")
            }
        case .legacyAES:
            container = .legacyAES { Qcow2Image(file: file, header: header, cipher: $0) }
        case .luks: take(try LUKSContainer(qcow2: header, file: file))
        }
        // What is not known may change what a table looks like.
        guard header.features.unknownIncompatibleBits.isEmpty else { return }
        let census = try Qcow2Census(file: file, header: header)
        clusters = Clusters(
            total: census.clusterCount, allocated: census.allocatedCount, compressed: census.compressedCount,
            zero: census.zeroCount, isComplete: census.isComplete, faults: census.faultCount,
            firstFault: census.firstFault)
    }

    private mutating func examineQcow(_ file: FileDevice, _ luksHeader: String?) throws {
        guard let header = try QcowHeader(device: file) else {
            throw FormatError.notRecognised(
                "the file is not qcow version 1; leave -f out, or say -f raw if it is a plain disk image")
        }
        virtualSize = header.virtualSize
        headerSize = header.size == header.virtualSize ? nil : header.size
        version = 1
        clusterSize = header.clusterSize
        compression = "deflate"
        backingFile = header.backingFile?.shown
        if header.encryption == .legacyAES {
            encryption = Self.encryption(.legacyAES, image)
            container = .legacyAES { QcowImage(file: file, header: header, cipher: $0, backing: nil) }
        } else if header.backingFile == nil {
            let disk = QcowImage(file: file, header: header, cipher: nil, backing: nil)
            if let luksHeader {
                try examine(disk, header: luksHeader, said: nil, options: "")
            } else if let inside = try LUKSContainer(guestDisk: disk) {
                if !part.isPart { take(inside) }
            } else {
                try examine(disk, options: "")
            }
        }
        let census = try QcowCensus(file: file, header: header)
        clusters = Clusters(
            total: census.clusterCount, allocated: census.allocatedCount, compressed: census.compressedCount,
            zero: 0, isComplete: census.isComplete, faults: census.faultCount, firstFault: census.firstFault)
    }

    private mutating func take(_ container: LUKSContainer) {
        self.container = .luks(container)
        let report = LUKSReport(container, path: image, allowing: plaintext)
        luks = report
        virtualSize = report.virtualSize
        refusal = refusal ?? report.refusal
        encryption = Encryption(
            method: "luks",
            description: "LUKS\(report.version), \(report.cipher), "
                + (report.place == "header alone" ? "a header without its data" : "in the \(report.place)"))
    }

    private static func encryption(_ method: Qcow2Header.Encryption, _ path: String) -> Encryption {
        switch method {
        case .none:
            Encryption(method: "none", description: "none")
        case .legacyAES:
            Encryption(
                method: "aes", description: "AES-128-CBC; the first 16 bytes of the passphrase are the key",
                weaknesses: [
                    "no salt and no key derivation: passphrases can be tried at full speed",
                    "predictable vectors: equal sectors of two states of the disk can be seen to be equal",
                    "changes of the encrypted data are not noticed, and neither is a wrong passphrase",
                    "QEMU no longer runs guests from such images",
                ],
                nextSteps: [
                    "nbdecrypt serve \(ShellText.fileArgument(path)) --run 'qemu-img convert -p -f raw -O qcow2 "
                        + "--object secret,id=new,file=new-passphrase "
                        + "-o encrypt.format=luks,encrypt.key-secret=new \"$uri\" new.qcow2'"
                ])
        case .luks:
            Encryption(method: "luks", description: "LUKS inside the image")
        }
    }

    /// The report for people.
    var text: String {
        var lines: [(String, String)] = [("image", image)]
        lines.append(("format", version.map { "\(format) version \($0)" } ?? format))
        if let partName { lines.append(("part", partName)) }
        lines.append(("virtual size", virtualSize.map { "\($0) bytes\(Self.rounded($0))" } ?? "unknown"))
        if let headerSize {
            lines.append(
                (
                    "size in header",
                    "\(headerSize) bytes; the rest of less than a sector of 512 is not served, as in QEMU"
                ))
        }
        lines.append(("file size", "\(fileSize) bytes\(Self.rounded(fileSize))"))
        if let clusterSize { lines.append(("cluster size", "\(clusterSize) bytes")) }
        if let features {
            let all = features.incompatible + features.compatible + features.autoclear
            lines.append(("features", all.isEmpty ? "none" : all.joined(separator: ", ")))
        }
        if let compression { lines.append(("compression", compression)) }
        if let backingFile {
            lines.append(
                ("backing file", "\(backingFile) (not opened), \(backingFormat.map { "format \($0)" } ?? "no format")"))
        }
        if let dataFile { lines.append(("data file", "\(dataFile) (not opened)")) }
        if let snapshots, snapshots > 0 { lines.append(("snapshots", "\(snapshots)")) }
        if let clusters {
            let least = clusters.isComplete ? "" : "at least "
            lines.append(
                (
                    "clusters",
                    "\(least)\(clusters.allocated) of \(clusters.total) allocated, \(clusters.compressed) compressed, "
                        + "\(clusters.zero) zero"
                ))
            if encryption.method != "none", clusters.compressed > 0 {
                lines.append(("leak", "compressed clusters are never encrypted: their contents can be read by anybody"))
            }
            if clusters.faults > 0 { lines.append(("damage", "\(clusters.faults) entries of the tables are wrong")) }
        }
        lines.append(("encryption", encryption.description))
        lines += luks?.lines ?? []
        lines += disk?.lines ?? []
        if let decrypted {
            let isKnown = !decrypted.lines.isEmpty
            lines.append(
                (
                    "decrypted",
                    isKnown ? "with the secret; on the disk is:" : "with the secret; nothing is known of the disk"
                ))
            lines += decrypted.lines
        }
        lines += encryption.weaknesses.map { ("weak", $0) }
        if let refusal { lines.append(("serve", "refused: \(refusal)")) }
        lines += (passphraseCheck?.lines ?? []).map { ("secret", $0) }
        let table = Self.table(lines)
        if let luks, !luks.verdict.commands.isEmpty {
            let isNewImage = luks.verdict.commands.contains { $0.contains("new-passphrase") }
            let introduction =
                isNewImage
                ? "To improve it, put a new passphrase into the file new-passphrase, without a newline, and type:"
                : "To improve it, with a backup at hand, type:"
            return (table + [introduction] + luks.verdict.commands.map { "  \($0)" })
                .joined(separator: "\n")
        }
        guard let step = encryption.nextSteps.first else { return table.joined(separator: "\n") }
        return table.joined(separator: "\n")
            + "\nTo move the disk to LUKS, put a new passphrase into the file new-passphrase, without a newline, and type:"
            + "\n  \(step)"
    }

    private static func rounded(_ bytes: UInt64) -> String {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        guard bytes >= 1024 else { return "" }
        var value = Double(bytes) / 1024
        var unit = 0
        while value >= 1024, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        let tenths = Int((value * 10).rounded())
        return " (\(tenths / 10).\(tenths % 10) \(units[unit]))"
    }
}
