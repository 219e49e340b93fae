// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The header of a qcow image of version 1, checked: every field is within its limits, and the L1 table lies in the file.
///
/// Nothing of the format is optional, so that an image with a good header can be read in full.
/// Source: the images, and the limits of QEMU, as docs/formats/qcow.md has them; no specification was ever written.
public struct QcowHeader: Equatable, Sendable {
    /// The backing file, whose name has 1 to 1023 bytes of any kind; nil when there is none. Its format is not recorded.
    public let backingFile: FileReference?
    /// The header's size field in bytes; the guest disk is this rounded down to 512.
    public let size: UInt64
    /// cluster_bits: a cluster has 2^this bytes; 9 to 16.
    public let clusterBits: Int
    /// l2_bits: an L2 table has 2^this entries; 6 to 13.
    public let l2Bits: Int
    /// crypt_method: how clusters are encrypted.
    public let encryption: Encryption
    /// Number of entries in the L1 table; follows from the size of the disk.
    public let l1EntryCount: Int
    /// l1_table_offset in bytes; need not be aligned.
    public let l1TableOffset: UInt64

    /// crypt_method.
    public enum Encryption: UInt32, Sendable {
        case none = 0
        /// AES-128-CBC with the passphrase as the key.
        case legacyAES = 1
    }

    /// A cluster in bytes.
    public var clusterSize: UInt64 { 1 << UInt64(clusterBits) }
    /// An L2 table in bytes.
    public var l2TableSize: UInt64 { 8 << UInt64(l2Bits) }
    /// Length of the guest disk in bytes: whole sectors of 512, as QEMU gives them to a guest.
    public var virtualSize: UInt64 { size / 512 * 512 }

    static let version: UInt32 = 1
    static let length = 48
    /// L1 tables are at most 32 MiB: with the smallest clusters and QEMU's l2_bits, disks of 8 TiB.
    static let maximumL1EntryCount: UInt64 = (32 << 20) / 8
    static let maximumBackingNameLength: UInt32 = 1023

    /// Reads the header.
    ///
    /// - Returns: nil when the file is not qcow version 1.
    /// - Throws: ``FormatError`` when it is but damaged, or needs larger tables than this program reads.
    public init?(device: any BlockDevice) throws(FormatError) {
        let start = try Self.read(device, at: 0, count: Int(min(device.size, UInt64(Self.length))))
        var reader = ByteReader(start)
        guard reader.take(4)?.elementsEqual(Qcow2Header.magic) == true, reader.integer(UInt32.self) == Self.version
        else { return nil }
        guard let backingOffset = reader.integer(UInt64.self), let backingLength = reader.integer(UInt32.self),
            reader.take(4) != nil,  // mtime
            let size = reader.integer(UInt64.self),
            let clusterBits = reader.integer(UInt8.self), let l2Bits = reader.integer(UInt8.self),
            reader.take(2) != nil,  // padding
            let method = reader.integer(UInt32.self), let l1TableOffset = reader.integer(UInt64.self)
        else {
            throw .damaged(
                "qcow header", at: 0, found: "\(start.count) bytes", allowed: "at least \(Self.length) bytes")
        }
        guard size >= 2 else {
            throw .damaged("qcow header: size", at: 24, found: "\(size) bytes", allowed: "at least 2")
        }
        guard (9...16).contains(clusterBits) else {
            throw .damaged("qcow header: cluster_bits", at: 32, found: clusterBits, allowed: "9 to 16")
        }
        guard (6...13).contains(l2Bits) else {
            throw .damaged("qcow header: l2_bits", at: 33, found: l2Bits, allowed: "6 to 13")
        }
        guard let encryption = Encryption(rawValue: method) else {
            throw .damaged("qcow header: crypt_method", at: 36, found: method, allowed: "0 (none) or 1 (AES)")
        }
        self.size = size
        self.clusterBits = Int(clusterBits)
        self.l2Bits = Int(l2Bits)
        self.encryption = encryption
        self.l1TableOffset = l1TableOffset
        self.l1EntryCount = try Self.l1EntryCount(
            size: size, coverageBits: UInt64(clusterBits) + UInt64(l2Bits), offset: l1TableOffset,
            fileSize: device.size, encryption)
        self.backingFile = try Self.backingFile(device, backingOffset, backingLength)
    }

    /// How many entries the L1 table of a disk of `size` bytes has, 2^`coverageBits` bytes for each.
    private static func l1EntryCount(
        size: UInt64, coverageBits: UInt64, offset: UInt64, fileSize: UInt64, _ encryption: Encryption
    ) throws(FormatError) -> Int {
        // At most 2^49: the multiplication below has room.
        let count = (size >> coverageBits) + (size & ((1 << coverageBits) - 1) == 0 ? 0 : 1)
        guard let table = ByteRange(offset: offset, length: count * 8), table.fits(fileSize) else {
            throw .damaged(
                "qcow header: l1_table_offset", at: 40,
                found: "\(offset), with \(count) entries for a disk of \(size) bytes",
                allowed: "a table within the file's \(fileSize) bytes")
        }
        guard count <= maximumL1EntryCount else {
            // A copy would take QEMU days, for it asks for every cluster of the disk.
            let serve = QEMUImageCommand.text(
                "qemu-nbd --read-only --persistent --socket=$PWD/nbd.sock", driver: "qcow",
                isEncrypted: encryption != .none)
            throw .unsupported(
                "the image needs an L1 table of \(count) entries for its disk of \(size) bytes, and nbdecrypt reads "
                    + "at most \(maximumL1EntryCount); \(serve) serves it")
        }
        return Int(count)
    }

    /// The name may be anywhere in the file. Without a length there is none, wherever it would be.
    private static func backingFile(
        _ device: any BlockDevice, _ offset: UInt64, _ length: UInt32
    ) throws(FormatError) -> FileReference? {
        guard offset > 0, length > 0 else { return nil }
        guard length <= maximumBackingNameLength else {
            throw .damaged(
                "qcow header: backing_file_size", at: 16, found: "\(length) bytes",
                allowed: "at most \(maximumBackingNameLength)")
        }
        guard let range = ByteRange(offset: offset, length: UInt64(length)), range.fits(device.size) else {
            throw .damaged(
                "qcow header: backing_file_offset", at: 8, found: "\(length) bytes at \(offset)",
                allowed: "a name within the file's \(device.size) bytes")
        }
        return Qcow2Extensions.reference(try read(device, at: offset, count: Int(length)))
    }

    private static func read(_ device: any BlockDevice, at offset: UInt64, count: Int) throws(FormatError) -> [UInt8] {
        do { return try device.read(count: count, at: offset) } catch { throw .unreadable("\(error)") }
    }
}
