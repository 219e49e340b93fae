// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The image formats that this program reads.
public enum ImageFormat: String, Sendable, CaseIterable {
    /// The file is the disk.
    case raw
    /// qcow version 1.
    case qcow
    case qcow2
    /// LUKS1 or LUKS2.
    case luks
}

/// Finds out which format a file has, once, before anybody can change it.
///
/// A file without a known magic number could be anything, and a guest that owns a raw disk can write any magic number
/// on it. So raw is never guessed: the caller must say it.
public enum ImageProbe {
    /// What the first bytes of a file say that it is. A guest that owns a disk can write any of them to it.
    public enum Signature: Equatable, Sendable {
        /// A format that this program reads; never raw, which has no signature.
        case format(ImageFormat)
        /// An encrypted clone of Ceph, which is of no use without its parent.
        case encryptedClone
        /// A format that is known by name only.
        case other(name: String, advice: String)

        /// For sentences, e.g. "a qcow2 image".
        public var name: String {
            switch self {
            case .format(.raw): "a plain disk"
            case .format(.qcow): "a qcow image of version 1"
            case .format(.qcow2): "a qcow2 image"
            case .format(.luks): "a LUKS container"
            case .encryptedClone: "the header of an encrypted Ceph clone"
            case .other(let name, _): name
            }
        }
    }

    /// The one list of what is known by its first bytes; nil when they say nothing.
    ///
    /// A LUKS container whose first header is lost counts; one that something else was written over does not.
    /// - Throws: ``FormatError`` with code `unreadable`.
    public static func signature(of device: any BlockDevice) throws(FormatError) -> Signature? {
        let start = try read(device, at: 0, count: 128)
        if start.starts(with: Qcow2Header.magic) {
            return .format(start.dropFirst(4).starts(with: [0, 0, 0, 1]) ? .qcow : .qcow2)
        }
        if let other = others.first(where: { start.starts(with: $0.magic.utf8) }) {
            return .other(name: other.name, advice: other.advice)
        }
        switch try findLUKS(device) {
        case .container: return .format(.luks)
        case .encryptedClone: return .encryptedClone
        case .none, .leftover: return nil
        }
    }

    /// The format of `device`.
    ///
    /// - Throws: ``FormatError`` with code `notRecognised` when no format fits, or `unsupported` for one that is known by
    ///   name only.
    public static func detect(_ device: any BlockDevice) throws(FormatError) -> ImageFormat {
        guard device.size > 0 else { throw .notRecognised("the file is empty; name an image file") }
        switch try signature(of: device) {
        case .format(let format): return format
        case .encryptedClone: throw encryptedClone
        case .other(let name, let advice):
            throw .unsupported("the file holds \(name), which this version of nbdecrypt does not read; \(advice)")
        case nil: break
        }
        if case .leftover(let contents) = try findLUKS(device) {
            throw .notRecognised(
                "the file begins with other contents (\(contents)), but a second copy of a LUKS2 header is left in it; "
                    + "to take the file as it is, say \(remedy: .format("raw")); to open the LUKS container that was there, \(remedy: .format("luks"))"
            )
        }
        if (try? LVMPhysicalVolume.isLabelled(device)) == true {
            throw .notRecognised(
                "the file is a disk that is an LVM physical volume as a whole; say \(remedy: .format("raw")), and \(remedy: .logicalVolume("GROUP/VOLUME")) to take "
                    + "a logical volume of it; without that its names are shown")
        }
        throw .notRecognised(
            "the contents are of no format that nbdecrypt knows; if the file is a plain disk image, say so with \(remedy: .format("raw")); "
                + "if it is the data of a LUKS volume, name the file with its header with \(remedy: .luksHeader(path: nil))"
        )
    }

    /// Why an encrypted clone of Ceph is refused, wherever it lies.
    ///
    /// What a clone has not written itself is in its parent, under the parent's key.
    public static let encryptedClone = FormatError.unsupported(
        "an encrypted Ceph clone (its LUKS header has the magic RBDL): most of its data is in its parent image; let Ceph 18 "
            + "or later make it whole with `rbd flatten --encryption-format luks --encryption-passphrase-file FILE "
            + "POOL/IMAGE`, both options once for the clone and, if it differs, once for each parent, and export it anew"
    )

    /// What there is of LUKS on a device.
    public enum LUKSFinding: Sendable, Equatable {
        /// Nothing.
        case none
        /// A header at the start, or the second copy of one whose first is lost.
        case container
        /// The second copy of a header, behind a start that something else has been written to since, which is named.
        ///
        /// cryptsetup does not open such a device either ("ambiguous signatures").
        case leftover(behind: String)
        /// The header of an encrypted clone of Ceph, which has another magic than LUKS so that nobody opens it alone.
        case encryptedClone
    }

    /// Does `device` hold a LUKS container that may be opened without being asked to?
    public static func holdsLUKS(_ device: any BlockDevice) throws(FormatError) -> Bool {
        try findLUKS(device) == .container
    }

    /// Looks for a LUKS container on `device`.
    /// - Throws: ``FormatError`` with code `unreadable`.
    public static func findLUKS(_ device: any BlockDevice) throws(FormatError) -> LUKSFinding {
        // Not text: the last two bytes are 0xBA 0xBE.
        let magic: [UInt8] = [0xBA, 0xBE]
        let start = try read(device, at: 0, count: 8)
        if start.starts(with: Array("LUKS".utf8) + magic) { return .container }
        if start.starts(with: Array("RBDL".utf8) + magic) { return .encryptedClone }
        // LUKS1 while it is being reencrypted.
        if start == Array("LUKS".utf8) + [0xDE, 0xAD, 0, 1] { return .container }
        for offset in secondLUKS2Headers {
            let found: LUKSFinding
            switch try read(device, at: offset, count: 6) {
            case Array("SKUL".utf8) + magic: found = .container
            case Array("LDBR".utf8) + magic: found = .encryptedClone
            default: continue
            }
            // hdr_offset: its own place. A header somewhere else belongs to something else.
            var field = ByteReader(try read(device, at: offset + 256, count: 8))
            guard field.integer(UInt64.self) == offset else { continue }
            return DiskStart.contents(device).map { .leftover(behind: $0) } ?? found
        }
        return .none
    }

    /// Where the second copy of a LUKS2 header may lie. Source: LUKS2 On-Disk Format Specification, "Binary Header".
    private static let secondLUKS2Headers = (14...22).map { 1 << UInt64($0) as UInt64 }

    /// What there is of `count` bytes.
    private static func read(_ device: any BlockDevice, at offset: UInt64, count: Int) throws(FormatError) -> [UInt8] {
        guard offset < device.size else { return [] }
        do { return try device.read(count: Int(min(device.size - offset, UInt64(count))), at: offset) } catch {
            throw .unreadable("\(error)")
        }
    }

    private static let useQEMU = "qemu-nbd serves it"

    private static let others: [(magic: String, name: String, advice: String)] = [
        ("KDMV", "a VMDK image", useQEMU),
        ("# Disk DescriptorFile", "a VMDK descriptor", useQEMU),
        ("vhdxfile", "a VHDX image", useQEMU),
        ("conectix", "a VHD image", useQEMU),
        ("QED\0", "a QED image", useQEMU),
        ("<<< ", "a VirtualBox VDI image", useQEMU),
        ("WithoutFreeSpace", "a Parallels image", useQEMU),
        ("WithouFreSpacExt", "a Parallels image", useQEMU),
    ]
}
