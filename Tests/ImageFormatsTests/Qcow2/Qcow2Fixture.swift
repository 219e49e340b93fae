// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport

/// A small qcow2 image made by hand, so that each byte can be made wrong.
///
/// Clusters of 512 bytes: header, refcount table, refcount block, L1 table, one L2 table, then data.
struct Qcow2Fixture {
    static let clusterSize = 512
    static let l1Offset = 3 * clusterSize
    static let l2Offset = 4 * clusterSize
    static let dataOffset = 5 * clusterSize

    var bytes: [UInt8]

    /// - Parameter entries: the first entries of the only L2 table.
    init(version: UInt32 = 3, size: UInt64 = 64 * 512, entries: [UInt64] = [], data: [UInt8] = []) {
        var header: [UInt8] = [0x51, 0x46, 0x49, 0xFB]
        header.append(bigEndian: version)
        header.append(bigEndian: UInt64(0))  // backing_file_offset
        header.append(bigEndian: UInt32(0))  // backing_file_size
        header.append(bigEndian: UInt32(9))  // cluster_bits
        header.append(bigEndian: size)
        header.append(bigEndian: UInt32(0))  // crypt_method
        header.append(bigEndian: UInt32(1))  // l1_size
        header.append(bigEndian: UInt64(Self.l1Offset))
        header.append(bigEndian: UInt64(512))  // refcount_table_offset
        header.append(bigEndian: UInt32(1))  // refcount_table_clusters
        header.append(bigEndian: UInt32(0))  // nb_snapshots
        header.append(bigEndian: UInt64(0))  // snapshots_offset
        if version >= 3 {
            for _ in 0..<3 { header.append(bigEndian: UInt64(0)) }  // feature bits
            header.append(bigEndian: UInt32(4))  // refcount_order
            header.append(bigEndian: UInt32(104))  // header_length
        }
        bytes = header + [UInt8](repeating: 0, count: Self.dataOffset - header.count)
        set(UInt64(Self.l2Offset) | 1 << 63, at: Self.l1Offset)
        for (index, entry) in entries.enumerated() { set(entry, at: Self.l2Offset + 8 * index) }
        bytes += data
    }

    /// Overwrites a big-endian field.
    mutating func set<T: FixedWidthInteger & UnsignedInteger>(_ value: T, at offset: Int) {
        var field: [UInt8] = []
        field.append(bigEndian: value)
        bytes.replaceSubrange(offset..<(offset + field.count), with: field)
    }

    /// Puts a header extension behind the header of version 3, and the end mark behind it.
    mutating func addExtension(_ type: UInt32, _ data: [UInt8], length: UInt32? = nil) {
        var field: [UInt8] = []
        field.append(bigEndian: type)
        field.append(bigEndian: length ?? UInt32(data.count))
        field += data + [UInt8](repeating: 0, count: (8 - data.count % 8) % 8 + 8)
        bytes.replaceSubrange(104..<(104 + field.count), with: field)
    }

    var device: MemoryDevice { MemoryDevice(bytes) }

    func header() throws -> Qcow2Header? { try Qcow2Header(device: device) }

    func image(cipher: (any SectorCipher)? = nil) throws -> Qcow2Image {
        let device = device
        guard let header = try Qcow2Header(device: device) else { throw FormatError.notRecognised("no magic") }
        return Qcow2Image(file: device, header: header, cipher: cipher)
    }
}
