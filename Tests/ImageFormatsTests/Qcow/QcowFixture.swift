// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport

/// A small qcow image of version 1 made by hand, so that each byte can be made wrong.
///
/// Clusters of 512 bytes: header, L1 table, one L2 table of 64 entries, then data.
struct QcowFixture {
    static let clusterSize = 512
    static let l1Offset = clusterSize
    static let l2Offset = 2 * clusterSize
    static let dataOffset = 3 * clusterSize
    /// What an entry of an L1 table stands for, in bytes.
    static let coverage = 64 * clusterSize
    /// 512 bytes of 0xCC as a raw deflate stream.
    static let packed: [UInt8] = [0x3B, 0x73, 0x66, 0x14, 0x8C, 0x64, 0x00, 0x00]
    /// As ``packed``, but only 511 bytes.
    static let packedTooShort: [UInt8] = [0x3B, 0x73, 0x66, 0x14, 0x8C, 0x60, 0x00, 0x00]

    var bytes: [UInt8]

    /// - Parameter entries: the first entries of the only L2 table.
    init(size: UInt64 = 64 * 512, method: UInt32 = 0, entries: [UInt64] = [], data: [UInt8] = []) {
        bytes = [0x51, 0x46, 0x49, 0xFB]
        bytes.append(bigEndian: UInt32(1))  // version
        bytes.append(bigEndian: UInt64(0))  // backing_file_offset
        bytes.append(bigEndian: UInt32(0))  // backing_file_size
        bytes.append(bigEndian: UInt32(0))  // mtime
        bytes.append(bigEndian: size)
        bytes += [9, 6, 0, 0]  // cluster_bits, l2_bits, padding
        bytes.append(bigEndian: method)
        bytes.append(bigEndian: UInt64(Self.l1Offset))
        bytes += [UInt8](repeating: 0, count: Self.dataOffset - bytes.count)
        set(UInt64(Self.l2Offset), at: Self.l1Offset)
        for (index, entry) in entries.enumerated() { set(entry, at: Self.l2Offset + 8 * index) }
        bytes += data
    }

    /// The entry of a compressed cluster, `count` bytes at `offset`.
    static func compressed(_ offset: Int, _ count: Int) -> UInt64 { 1 << 63 | UInt64(count) << 54 | UInt64(offset) }

    /// 512 times the same byte.
    static func cluster(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 512) }

    /// Overwrites a big-endian field.
    mutating func set<T: FixedWidthInteger & UnsignedInteger>(_ value: T, at offset: Int) {
        var field: [UInt8] = []
        field.append(bigEndian: value)
        bytes.replaceSubrange(offset..<(offset + field.count), with: field)
    }

    /// Puts the name of a backing file behind the header.
    mutating func setBackingName(_ name: [UInt8]) {
        set(UInt64(64), at: 8)
        set(UInt32(name.count), at: 16)
        bytes.replaceSubrange(64..<(64 + name.count), with: name)
    }

    var device: MemoryDevice { MemoryDevice(bytes) }

    func header() throws -> QcowHeader? { try QcowHeader(device: device) }

    /// - Parameter file: nil gives a device of its own.
    func image(
        file: MemoryDevice? = nil, cipher: (any SectorCipher)? = nil, backing: (any BlockDevice)? = nil
    ) throws -> QcowImage {
        let device = file ?? self.device
        guard let header = try QcowHeader(device: device) else { throw FormatError.notRecognised("no magic") }
        return QcowImage(file: device, header: header, cipher: cipher, backing: backing)
    }
}
