// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import Testing
import TestSupport

/// An image with bitmaps, made by hand: the directory, then a table and two clusters of bits that all bitmaps share.
struct Qcow2BitmapFixture {
    /// An entry of the directory before it becomes bytes.
    struct Entry {
        var tableOffset = UInt64(Qcow2BitmapFixture.tableOffset)
        var tableCount: UInt32 = 2
        var flags: UInt32 = 0
        var type: UInt8 = 1
        var granularityBits: UInt8 = 9
        var name = Array("b".utf8)
        var nameLength: UInt16?
        var extra: [UInt8] = []

        init(_ name: String = "b", flags: UInt32 = 0) {
            self.name = Array(name.utf8)
            self.flags = flags
        }

        var bytes: [UInt8] {
            var bytes: [UInt8] = []
            bytes.append(bigEndian: tableOffset)
            bytes.append(bigEndian: tableCount)
            bytes.append(bigEndian: flags)
            bytes += [type, granularityBits]
            bytes.append(bigEndian: nameLength ?? UInt16(name.count))
            bytes.append(bigEndian: UInt32(extra.count))
            bytes += extra + name
            return bytes + [UInt8](repeating: 0, count: (8 - bytes.count % 8) % 8)
        }
    }

    static let directoryOffset = Qcow2Fixture.dataOffset
    static let tableOffset = directoryOffset + 4096
    static let bitsOffset = tableOffset + 512
    /// Bits of a cluster.
    static let bitsPerCluster: UInt64 = 4096
    /// 6000 bits of 512 bytes.
    static let diskSize: UInt64 = 6000 * 512
    static let extensionType: UInt32 = 0x2385_2875
    /// Where the data of the extension is.
    static let extensionPlace = 104 + 8

    var image: Qcow2Fixture

    /// - Parameter table: entries; nil: the two clusters of bits.
    init(_ entries: [Entry] = [Entry()], table: [UInt64]? = nil, size: UInt64 = diskSize) {
        let directory = entries.flatMap(\.bytes)
        image = Qcow2Fixture(size: size)
        image.set(UInt32(94), at: 36)
        image.bytes += directory + [UInt8](repeating: 0, count: 4096 - directory.count)
        image.bytes += [UInt8](repeating: 0, count: 512 + 1024)
        for (index, entry) in (table ?? [UInt64(Self.bitsOffset), UInt64(Self.bitsOffset) + 512]).enumerated() {
            image.set(entry, at: Self.tableOffset + index * 8)
        }
        image.set(UInt64(1), at: 88)
        setExtension(count: UInt32(entries.count), size: UInt64(directory.count))
        // An L1 table that is long enough for the disk.
        image.bytes += [UInt8](repeating: 0, count: 512)
        image.set(UInt64(image.bytes.count - 512) / 512 * 512, at: 40)
        image.bytes += [UInt8](repeating: 0, count: 1024)
    }

    mutating func setExtension(
        count: UInt32 = 1, reserved: UInt32 = 0, size: UInt64 = 32, offset: UInt64 = UInt64(directoryOffset)
    ) {
        var data: [UInt8] = []
        data.append(bigEndian: count)
        data.append(bigEndian: reserved)
        data.append(bigEndian: size)
        data.append(bigEndian: offset)
        image.addExtension(Self.extensionType, data)
    }

    /// Sets a bit of the clusters of bits.
    mutating func setBit(_ bit: Int) { image.bytes[Self.bitsOffset + bit / 8] |= 1 << UInt8(bit % 8) }

    func bitmaps(_ device: MemoryDevice? = nil) throws -> [Qcow2Bitmap] {
        let device = device ?? image.device
        let header = try #require(try Qcow2Header(device: device))
        return try Qcow2Bitmap.all(of: device, header, cache: ImageCache())
    }

    func bitmap() throws -> Qcow2Bitmap { try #require(try bitmaps().first) }

    func warning() throws -> String? { Qcow2Bitmap.warning(try #require(try image.header())) }
}
