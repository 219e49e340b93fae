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
        case format(ImageFormat)
        /// A format that is known by name only.
        case other(name: String, advice: String)

        /// For sentences, e.g. "a qcow2 image".
        public var name: String {
            switch self {
            case .format(.raw): "a plain disk"
            case .format(.qcow): "a qcow image of version 1"
            case .format(.qcow2): "a qcow2 image"
            case .format(.luks): "a LUKS container"
            case .other(let name, _): name
            }
        }
    }

    /// The signature of a known format that `device` has; nil when it has none.
    /// - Throws: ``FormatError`` with code `unreadable`.
    public static func signature(of device: any BlockDevice) throws(FormatError) -> Signature? {
        let start = try read(device, at: 0, count: 128)
        if start.starts(with: Qcow2Header.magic) {
            return .format(start.dropFirst(4).starts(with: [0, 0, 0, 1]) ? .qcow : .qcow2)
        }
        if try findLUKS(device) == .container { return .format(.luks) }
        return others.first { start.dropFirst($0.offset).starts(with: $0.magic.utf8) }
            .map { .other(name: $0.name, advice: $0.advice) }
    }

    /// The format of `device`.
    ///
    /// - Throws: ``FormatError`` with code `notRecognised` when no format fits, or `unsupported` for one that is known by
    ///   name only.
    public static func detect(_ device: any BlockDevice) throws(FormatError) -> ImageFormat {
        guard device.size > 0 else { throw .notRecognised("the file is empty; name an image file") }
        switch try signature(of: device) {
        case .format(let format)?: return format
        case .other(let name, let advice)?:
            throw .unsupported("the file holds \(name), which this version of nbdecrypt does not read; \(advice)")
        case nil: break
        }
        if case .leftover(let contents) = try findLUKS(device) {
            throw .notRecognised(
                "the file begins with other contents (\(contents)), but a second copy of a LUKS2 header is left in it; "
                    + "to serve the file as it is, say -f raw; to open the LUKS container that was there, -f luks")
        }
        throw .notRecognised(
            "the contents are of no format that nbdecrypt knows; if the file is a plain disk image, say so with -f raw; "
                + "if it is the data of a LUKS volume, name the file with its header with --header")
    }

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
        // LUKS1 while it is being reencrypted.
        if start == Array("LUKS".utf8) + [0xDE, 0xAD, 0, 1] { return .container }
        for offset in secondLUKS2Headers where try read(device, at: offset, count: 6) == Array("SKUL".utf8) + magic {
            // hdr_offset: its own place. A header somewhere else belongs to something else.
            var field = ByteReader(try read(device, at: offset + 256, count: 8))
            guard field.integer(UInt64.self) == offset else { continue }
            return DiskStart.contents(device).map { .leftover(behind: $0) } ?? .container
        }
        return .none
    }

    /// Where the second copy of a LUKS2 header may lie. Source: LUKS2 On-Disk Format Specification, "Binary Header".
    private static let secondLUKS2Headers = (14...22).map { 1 << UInt64($0) as UInt64 }

    /// What there is of `count` bytes.
    private static func read(_ device: any BlockDevice, at offset: UInt64, count: Int) throws(FormatError) -> [UInt8] {
        guard offset < device.size else { return [] }
        do { return try device.read(count: Int(min(device.size - offset, UInt64(count))), at: offset) } catch {
            throw .unreadable(error.description)
        }
    }

    private static let useQEMU = "qemu-nbd serves it"

    private static let others: [(magic: String, offset: Int, name: String, advice: String)] = [
        ("KDMV", 0, "a VMDK image", useQEMU),
        ("# Disk DescriptorFile", 0, "a VMDK descriptor", useQEMU),
        ("vhdxfile", 0, "a VHDX image", useQEMU),
        ("conectix", 0, "a VHD image", useQEMU),
        ("QED\0", 0, "a QED image", useQEMU),
        ("<<< ", 0, "a VirtualBox VDI image", useQEMU),
        ("WithoutFreeSpace", 0, "a Parallels image", useQEMU),
        ("WithouFreSpacExt", 0, "a Parallels image", useQEMU),
    ]
}
