// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The image formats that this program reads.
public enum ImageFormat: String, Sendable, CaseIterable {
    /// The file is the disk.
    case raw
    case qcow2
}

/// Finds out which format a file has, once, before anybody can change it.
///
/// A file without a known magic number could be anything, and a guest that owns a raw disk can write any magic number
/// on it. So raw is never guessed: the caller must say it.
public enum ImageProbe {
    /// The format of `device`.
    ///
    /// - Throws: ``FormatError`` with code `notRecognised` when no format fits, or `unsupported` for one that is known by
    ///   name only.
    public static func detect(_ device: any BlockDevice) throws(FormatError) -> ImageFormat {
        let start: [UInt8]
        do { start = try device.read(count: Int(min(device.size, 128)), at: 0) } catch {
            throw .unreadable(error.description)
        }
        guard !start.isEmpty else { throw .notRecognised("the file is empty; name an image file") }
        if start.starts(with: Qcow2Header.magic) { return .qcow2 }
        // Not text: the last two bytes are 0xBA 0xBE.
        if start.starts(with: Array("LUKS".utf8) + [0xBA, 0xBE]) {
            throw .unsupported(
                "the file holds a LUKS container, which this version of nbdecrypt does not read; "
                    + "open it with cryptsetup open --readonly")
        }
        if let other = others.first(where: { start.dropFirst($0.offset).starts(with: $0.magic.utf8) }) {
            throw .unsupported(
                "the file holds \(other.name), which this version of nbdecrypt does not read; \(other.advice)")
        }
        throw .notRecognised(
            "the contents are of no format that nbdecrypt knows; if the file is a plain disk image, say so with -f raw")
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
