// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import ImageFormats

extension AuditedLayer {
    /// Audits one file of any format that is served.
    ///
    /// - Parameters:
    ///   - name: for the report.
    ///   - dataSize: of the data of a detached LUKS header in bytes, when it is known.
    ///   - dataFileSize: of the external data file in bytes, when it is known.
    ///   - mapCells: how many cells each map has at most; nil: no maps are drawn.
    ///   - progress: is told the part that is done, 0 to 1.
    /// - Throws: ``FormatError`` when the image needs what this program does not know, or when a file cannot be read;
    ///   ``OpeningError`` about the file with the LUKS header. Damage is no error, but a result.
    init(
        _ file: any BlockDevice, name: String, format: ImageFormat, luksHeader: DetachedHeader? = nil,
        dataSize: UInt64? = nil, dataFileSize: UInt64? = nil, mapCells: Int? = nil,
        progress: (Double) -> Void = { _ in }
    ) throws {
        switch format {
        case .raw:
            // A detached header makes of the file what it decrypts.
            self.init(name: name, format: format.rawValue, isEncrypted: luksHeader != nil)
            if luksHeader == nil, let mapCells { draw(file, cellCount: mapCells) }
        case .luks:
            self.init(name: name, format: format.rawValue, isEncrypted: true)
            guard luksHeader == nil else { break }
            let volume = try checkLUKS(file, dataSize: file.size, isDetached: false)
            if let volume, let mapCells { maps = [AuditMap(volume, in: file, cellCount: mapCells)] }
        case .qcow: self = try Self.qcow(file, name, mapCells)
        case .qcow2: self = try Self.qcow2(file, name, dataFileSize, mapCells, progress)
        }
        guard let luksHeader else { return }
        let volume = try check(luksHeader, dataSize: dataSize)
        // Of another format, the data is on its disk.
        if let volume, let mapCells, format == .raw || format == .luks {
            maps = [AuditMap(dataOf: volume, in: file, cellCount: mapCells)]
        }
    }

    /// Draws a file of which nothing is known but where its holes are.
    private mutating func draw(_ file: any BlockDevice, cellCount: Int) {
        var map = AuditMap(of: .file, size: file.size, cellCount: cellCount)
        map.add(ByteRange(offset: 0, length: file.size) ?? .empty, of: file, at: 0, data: .plain)
        maps = [map]
    }

    /// Audits a LUKS container in a part of a disk.
    ///
    /// - Parameter mapCells: how many cells its map has at most; nil: none is drawn.
    init(container part: DiskPart, mapCells: Int? = nil) {
        self.init(name: part.fullName, format: ImageFormat.luks.rawValue, isEncrypted: true)
        do throws(FormatError) {
            let volume = try checkLUKS(part.device, dataSize: part.device.size, isDetached: false)
            if let volume, let mapCells { maps = [AuditMap(volume, in: part.device, cellCount: mapCells)] }
        } catch {
            incompleteness = error.sentence
        }
    }

    private static func qcow(
        _ file: any BlockDevice, _ name: String, _ mapCells: Int?
    ) throws(FormatError) -> AuditedLayer {
        let found: QcowHeader?
        do { found = try QcowHeader(device: file) } catch { return try Self.damaged(.qcow, name, error) }
        guard let header = found else { throw FormatDecision.isNot(.qcow) }
        do {
            var layer = AuditedLayer(name: name, header, try MappedCensus(file: file, header: header))
            if let mapCells { layer.maps = [Self.disk(of: file, header, cellCount: mapCells)] }
            return layer
        } catch {
            var layer = AuditedLayer(name: name, format: ImageFormat.qcow.rawValue, isEncrypted: false)
            layer.faults.note(.unreadable, at: nil, "\(error)")
            return layer
        }
    }

    /// The map of the disk in an image of qcow version 1, which does not say what is where in its file.
    private static func disk(of file: any BlockDevice, _ header: QcowHeader, cellCount: Int) -> AuditMap {
        let isEncrypted = header.encryption != .none
        let disk = QcowImage(file: file, header: header, cipher: isEncrypted ? SealedCipher() : nil, backing: nil)
        var map = AuditMap(of: .disk, size: disk.size, cellCount: cellCount)
        map.add(
            ByteRange(offset: 0, length: disk.size) ?? .empty, of: disk, at: 0, data: isEncrypted ? .encrypted : .plain,
            compressed: isEncrypted ? .exposed : .compressed)
        return map
    }

    /// The layer whose header is damaged, which is all that there is to say of it.
    private static func damaged(
        _ format: ImageFormat, _ name: String, _ error: FormatError
    ) throws(FormatError) -> AuditedLayer {
        guard error.code == .damaged else { throw error }
        var layer = AuditedLayer(name: name, format: format.rawValue, isEncrypted: false)
        layer.faults.note(.header, at: nil, error.sentence)
        layer.incompleteness = "nothing can be found without a sound header"
        return layer
    }

    private static func qcow2(
        _ file: any BlockDevice, _ name: String, _ dataFileSize: UInt64?, _ mapCells: Int?,
        _ progress: (Double) -> Void
    ) throws(FormatError) -> AuditedLayer {
        let found: Qcow2Header?
        do { found = try Qcow2Header(device: file) } catch { return try Self.damaged(.qcow2, name, error) }
        guard let header = found else { throw FormatDecision.isNot(.qcow2) }
        // What an unknown feature changes in the tables is not known either.
        if !header.features.unknownIncompatibleBits.isEmpty { try Qcow2Support.check(header) }
        let audit = Qcow2Audit(
            file: file, header: header, dataFileSize: dataFileSize, mapCells: mapCells, progress: progress)
        var layer = AuditedLayer(name: name, header, audit)
        if header.encryption == .luks {
            _ = try layer.checkLUKS(header.luksWindow(in: file), dataSize: nil, isDetached: true)
        }
        return layer
    }

    /// Notes what is wrong with a LUKS header: both copies must be sound, and all keyslots must lie where they may.
    ///
    /// - Returns: what it says; nil when it is damaged.
    private mutating func checkLUKS(
        _ device: any BlockDevice, dataSize: UInt64?, isDetached: Bool
    ) throws(FormatError) -> LUKSVolume? {
        do {
            let volume = try LUKSOpener.header(device, dataSize: dataSize, isDetached: isDetached)
            for warning in volume.warnings { faults.note(.header, at: nil, Sentence(warning)) }
            noteProtection(of: volume)
            return volume
        } catch {
            switch error.code {
            case .damaged: faults.note(.header, at: nil, error.sentence)
            case .notRecognised where format == ImageFormat.qcow2.rawValue:
                faults.note(.header, at: nil, "the area for the LUKS header holds none")
            default: throw error
            }
            return nil
        }
    }

    /// Notes what of a container is in the clear, or cannot be judged.
    private mutating func noteProtection(of volume: LUKSVolume) {
        plaintextParts = LUKSPlaintext.all(in: volume).map(\.description)
        for segment in volume.disk {
            guard case .other(let type) = segment.kind else { continue }
            incompleteness =
                incompleteness
                ?? "segment \(segment.number) of the LUKS2 header is of type \(type), of which cannot be told whether it is encrypted"
        }
        if volume.disk.allSatisfy({ LUKSPlaintext($0) != nil }) { isEncrypted = false }
    }

    private mutating func check(_ header: DetachedHeader, dataSize: UInt64?) throws -> LUKSVolume? {
        do { return try checkLUKS(header.source.device, dataSize: dataSize, isDetached: true) } catch {
            throw OpeningError(error, image: header.name)
        }
    }
}
