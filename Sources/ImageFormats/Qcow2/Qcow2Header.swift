// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// The header of a qcow2 image, checked: every field is within its limits, and the tables it names lie in the file.
///
/// What the fields ask for may still be more than this program does: see ``Qcow2Support``.
/// Source: qcow2 specification, "Header" and "Header extensions"; limits as in QEMU's block/qcow2.h.
public struct Qcow2Header: Equatable, Sendable {
    /// 2 or 3.
    public let version: UInt32
    /// The backing file; nil when there is none.
    public let backingFile: FileReference?
    /// cluster_bits: a cluster has 2^this bytes; 9 to 21.
    public let clusterBits: Int
    /// The header's size field in bytes; the guest disk is this rounded down to 512.
    public let size: UInt64
    /// crypt_method: how clusters are encrypted.
    public let encryption: Encryption
    /// l1_size: number of entries in the L1 table.
    public let l1EntryCount: Int
    /// l1_table_offset in bytes; a multiple of the cluster size.
    public let l1TableOffset: UInt64
    /// refcount_table_offset in bytes; a multiple of the cluster size.
    let refcountTableOffset: UInt64
    /// refcount_table_clusters: how long the table is; at most 8 MiB.
    let refcountTableClusterCount: UInt32
    /// nb_snapshots: number of internal snapshots.
    public let snapshotCount: UInt32
    /// snapshots_offset in bytes; of no meaning without snapshots.
    public let snapshotTableOffset: UInt64
    /// The three sets of feature bits.
    public let features: Qcow2Features
    /// refcount_order: a reference count has 2^this bits; 0 to 6.
    public let refcountOrder: UInt32
    /// compression_type: how compressed clusters are packed.
    public let compression: Compression
    /// Header extensions that are present.
    public let extensions: Qcow2Extensions

    /// crypt_method.
    public enum Encryption: UInt32, Sendable {
        case none = 0
        /// AES-128-CBC with the passphrase as the key.
        case legacyAES = 1
        /// A LUKS header inside the image.
        case luks = 2
    }

    /// compression_type.
    public enum Compression: UInt8, Sendable {
        case deflate = 0
        case zstd = 1
    }

    /// A cluster in bytes.
    public var clusterSize: UInt64 { 1 << UInt64(clusterBits) }
    /// Length of the guest disk in bytes: whole sectors of 512, as QEMU gives them to a guest.
    public var virtualSize: UInt64 { size / 512 * 512 }
    /// How the active disk is found.
    public var mapping: Qcow2Mapping { mapping(l1TableOffset: l1TableOffset, l1EntryCount: l1EntryCount, size: size) }

    /// How a disk is found whose L1 table lies at this place.
    func mapping(l1TableOffset: UInt64, l1EntryCount: Int, size: UInt64) -> Qcow2Mapping {
        Qcow2Mapping(
            version: version, clusterBits: clusterBits, hasSubclusters: features.contains(.extendedL2),
            hasDataFile: features.contains(.externalDataFile), l1TableOffset: l1TableOffset,
            l1EntryCount: l1EntryCount, virtualSize: size / 512 * 512)
    }

    /// The area of `file` that holds the LUKS header; empty when there is none.
    public func luksWindow(in file: any BlockDevice) -> WindowDevice {
        let place = extensions.luksHeader ?? Qcow2Extensions.LUKSHeader(offset: 0, length: 0)
        let range = ByteRange(offset: place.offset, length: place.length)
        return WindowDevice(file, range.flatMap { $0.fits(file.size) ? $0 : nil } ?? .empty)
    }

    static let magic: [UInt8] = [0x51, 0x46, 0x49, 0xFB]  // "QFI\xfb"
    static let version2Length = 72
    static let version3Length = 104
    /// L1 tables are at most 32 MiB.
    static let maximumL1EntryCount: UInt32 = (32 << 20) / 8
    /// Refcount tables are at most 8 MiB.
    static let maximumRefcountTableSize: UInt64 = 8 << 20
    static let maximumBackingNameLength: UInt32 = 1023

    /// Reads the header.
    ///
    /// - Returns: nil when the file is not qcow2 at all; qcow version 1 is another format.
    /// - Throws: ``FormatError`` when it is qcow2 but damaged or of an unknown version.
    public init?(device: any BlockDevice) throws(FormatError) {
        var fixed = try Self.read(device, at: 0, count: Int(min(device.size, 112)))[...]
        guard fixed.starts(with: Self.magic) else { return nil }
        guard fixed.count >= Self.version2Length else {
            throw .damaged("qcow2 header", at: 0, found: "\(fixed.count) bytes", allowed: "at least 72 bytes")
        }
        fixed += [UInt8](repeating: 0, count: 112 - fixed.count)
        let field = Field(bytes: Array(fixed))

        version = field.word(4)
        guard version != 1 else { return nil }
        guard version == 2 || version == 3 else {
            throw .damaged("qcow2 header: version", at: 4, found: version, allowed: "2 or 3")
        }
        let bits = field.word(20)
        guard (9...21).contains(bits) else {
            throw .damaged("qcow2 header: cluster_bits", at: 20, found: bits, allowed: "9 to 21")
        }
        clusterBits = Int(bits)
        let clusterSize: UInt64 = 1 << UInt64(bits)

        let isVersion3 = version == 3
        let headerLength = isVersion3 ? field.word(100) : UInt32(Self.version2Length)
        guard !isVersion3 || headerLength >= Self.version3Length, headerLength <= clusterSize else {
            throw .damaged(
                "qcow2 header: header_length", at: 100, found: headerLength, allowed: "104 to \(clusterSize)")
        }
        guard UInt64(headerLength) <= device.size else {
            throw .damaged(
                "qcow2 header", at: 0, found: "\(device.size) bytes", allowed: "at least \(headerLength) bytes")
        }
        features = Qcow2Features(
            incompatible: isVersion3 ? field.long(72) : 0, compatible: isVersion3 ? field.long(80) : 0,
            autoclear: isVersion3 ? field.long(88) : 0)
        refcountOrder = isVersion3 ? field.word(96) : 4
        guard refcountOrder <= 6 else {
            throw .damaged("qcow2 header: refcount_order", at: 96, found: refcountOrder, allowed: "0 to 6")
        }
        let compressionType = headerLength > Self.version3Length ? field.bytes[104] : 0
        guard let compression = Compression(rawValue: compressionType) else {
            throw .damaged(
                "qcow2 header: compression_type", at: 104, found: compressionType, allowed: "0 (deflate) or 1 (zstd)",
                advice: "the image was made by a newer program: convert it with that program")
        }
        self.compression = compression
        guard features.contains(.compressionType) == (compression != .deflate) else {
            throw .damaged(
                "qcow2 header: incompatible feature bit 3 (compression type)", at: 72,
                found: features.contains(.compressionType) ? "set" : "clear",
                allowed: "the opposite with compression_type \(compressionType)")
        }
        let method = field.word(32)
        guard let encryption = Encryption(rawValue: method) else {
            throw .damaged(
                "qcow2 header: crypt_method", at: 32, found: method, allowed: "0 (none), 1 (AES) or 2 (LUKS)")
        }
        self.encryption = encryption

        size = field.long(24)
        let l1EntryCount = field.word(36)
        l1TableOffset = field.long(40)
        guard !features.contains(.extendedL2) || bits >= 14 else {
            throw .damaged(
                "qcow2 header: cluster_bits", at: 20, found: "\(bits) with extended L2 entries", allowed: "14 to 21")
        }
        try Self.checkL1(
            size: size, entryCount: l1EntryCount, offset: l1TableOffset, clusterBits: clusterBits,
            coverageBits: clusterBits + clusterBits - (features.contains(.extendedL2) ? 4 : 3), fileSize: device.size)
        self.l1EntryCount = Int(l1EntryCount)
        refcountTableOffset = field.long(48)
        refcountTableClusterCount = field.word(56)
        try Self.checkRefcountTable(
            offset: refcountTableOffset, clusters: refcountTableClusterCount, clusterSize: clusterSize,
            fileSize: device.size)
        snapshotCount = field.word(60)
        snapshotTableOffset = field.long(64)
        guard snapshotCount <= Qcow2Snapshot.maximumCount else {
            throw .damaged("qcow2 header: nb_snapshots", at: 60, found: snapshotCount, allowed: "at most 65536")
        }

        let backing = (offset: field.long(8), length: field.word(16))
        backingFile = try Self.backingFile(device, backing.offset, backing.length, clusterSize: clusterSize)
        let areaEnd = min(backing.offset > 0 ? backing.offset : clusterSize, clusterSize, device.size)
        extensions = try Qcow2Extensions(
            area: Self.read(
                device, at: UInt64(headerLength), count: Int(areaEnd) - Int(min(areaEnd, UInt64(headerLength)))),
            at: UInt64(headerLength))
        guard extensions.luksHeader == nil || encryption == .luks else {
            throw .damaged(
                "qcow2 header extension 0x0537be77 (LUKS header)", at: 32, found: "crypt_method \(method)",
                allowed: "crypt_method 2")
        }
        guard encryption != .luks || extensions.luksHeader != nil else {
            throw .damaged(
                "qcow2 header: crypt_method", at: 32, found: "2 (LUKS) without the header extension 0x0537be77",
                allowed: "2 with that extension")
        }
        if let header = extensions.luksHeader {
            let range = ByteRange(offset: header.offset, length: header.length)
            guard header.offset > 0, header.offset % clusterSize == 0, let range, range.fits(device.size) else {
                throw .damaged(
                    "qcow2 header extension 0x0537be77 (LUKS header)", at: UInt64(headerLength),
                    found: "\(header.length) bytes at byte \(header.offset)",
                    allowed: "a multiple of \(clusterSize) within the file's \(device.size) bytes")
            }
        }
    }

    private static func read(_ device: any BlockDevice, at offset: UInt64, count: Int) throws(FormatError) -> [UInt8] {
        do { return try device.read(count: count, at: offset) } catch { throw .unreadable("\(error)") }
    }

    private static func checkL1(
        size: UInt64, entryCount: UInt32, offset: UInt64, clusterBits: Int, coverageBits: Int, fileSize: UInt64
    ) throws(FormatError) {
        guard entryCount <= maximumL1EntryCount else {
            throw .damaged(
                "qcow2 header: l1_size", at: 36, found: "\(entryCount) entries",
                allowed: "at most \(maximumL1EntryCount)")
        }
        let needed = Qcow2Mapping.l1EntriesNeeded(for: size, coverageBits: coverageBits)
        guard needed <= maximumL1EntryCount else {
            throw .damaged(
                "qcow2 header: size", at: 24, found: "\(size) bytes",
                allowed: "at most \(UInt64(maximumL1EntryCount) << UInt64(coverageBits)) with this cluster size")
        }
        guard entryCount >= needed else {
            throw .damaged(
                "qcow2 header: l1_size", at: 36, found: "\(entryCount) entries",
                allowed: "at least \(needed) for a disk of \(size) bytes")
        }
        guard offset % (1 << UInt64(clusterBits)) == 0 else {
            throw .damaged(
                "qcow2 header: l1_table_offset", at: 40, found: offset, allowed: "a multiple of the cluster size")
        }
        guard let table = ByteRange(offset: offset, length: UInt64(entryCount) * 8), table.fits(fileSize) else {
            throw .damaged(
                "qcow2 header: l1_table_offset", at: 40, found: "\(entryCount) entries at \(offset)",
                allowed: "a table within the file's \(fileSize) bytes")
        }
    }

    private static func checkRefcountTable(
        offset: UInt64, clusters: UInt32, clusterSize: UInt64, fileSize: UInt64
    ) throws(FormatError) {
        let length = UInt64(clusters) * clusterSize
        guard clusters > 0, length <= maximumRefcountTableSize else {
            throw .damaged(
                "qcow2 header: refcount_table_clusters", at: 56, found: clusters,
                allowed: "1 to \(maximumRefcountTableSize / clusterSize)")
        }
        guard offset % clusterSize == 0, let table = ByteRange(offset: offset, length: length), table.fits(fileSize)
        else {
            throw .damaged(
                "qcow2 header: refcount_table_offset", at: 48, found: "\(clusters) clusters at \(offset)",
                allowed: "whole clusters within the file's \(fileSize) bytes")
        }
    }

    private static func backingFile(
        _ device: any BlockDevice, _ offset: UInt64, _ length: UInt32, clusterSize: UInt64
    ) throws(FormatError) -> FileReference? {
        // To QEMU, an empty name is none.
        guard offset > 0, length > 0 else { return nil }
        guard length <= maximumBackingNameLength else {
            throw .damaged(
                "qcow2 header: backing_file_size", at: 16, found: "\(length) bytes",
                allowed: "at most \(maximumBackingNameLength)")
        }
        guard let range = ByteRange(offset: offset, length: UInt64(length)), range.fits(min(clusterSize, device.size))
        else {
            throw .damaged(
                "qcow2 header: backing_file_offset", at: 8, found: "\(length) bytes at \(offset)",
                allowed: "a name within the first cluster")
        }
        return Qcow2Extensions.reference(try read(device, at: offset, count: Int(length)))
    }

    /// Big-endian fields of the fixed part, whose length has been checked.
    private struct Field {
        let bytes: [UInt8]

        func word(_ offset: Int) -> UInt32 { UInt32(truncatingIfNeeded: long(offset) >> 32) }

        func long(_ offset: Int) -> UInt64 { bytes.withBytes { $0.bigEndianWord(at: offset) } }
    }
}
