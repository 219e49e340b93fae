// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// The label of an LVM2 physical volume, with the header that it leads to: who it is, and where its parts are.
///
/// Little-endian. The label is in one of the first four sectors of 512 bytes, whatever the sectors of the disk.
struct LVMLabel: Sendable, Equatable {
    /// 32 characters, without the dashes that people see.
    let identifier: String
    /// Where the data begins and ends, in bytes; nil when it ends with the device.
    let data: (start: UInt64, end: UInt64?)
    /// Where metadata is, within the device; none on a physical volume that leaves it to others.
    let metadataAreas: [ByteRange]

    static func == (one: LVMLabel, other: LVMLabel) -> Bool {
        one.identifier == other.identifier && one.data == other.data && one.metadataAreas == other.metadataAreas
    }

    private static let sectorSize: UInt64 = 512
    private static let sectors: Range<UInt64> = 0..<4

    /// Is there a label, sound or not?
    /// - Throws: ``BlockError`` when the start of the device cannot be read.
    static func exists(_ start: SuperblockBytes) -> Bool {
        sectors.contains { VolumeLabel.lvm(sector(start, $0), at: $0 * sectorSize) != nil }
    }

    /// The sectors in which a label may be; less of a device that is smaller.
    static func start(of device: any BlockDevice) throws(BlockError) -> SuperblockBytes {
        let count = min(device.size, sectors.upperBound * sectorSize)
        return SuperblockBytes(try AlignedDevice(device).read(count: Int(count), at: 0))
    }

    private static func sector(_ start: SuperblockBytes, _ number: UInt64) -> SuperblockBytes {
        SuperblockBytes(Array(start.field(Int(number * sectorSize), Int(sectorSize))))
    }

    /// Reads the first label whose checksum is right; nil when there is none at all.
    ///
    /// - Parameter start: from ``start(of:)``.
    /// - Throws: ``FormatError`` with code `damaged` when no label is sound, or when what it says cannot be.
    init?(_ start: SuperblockBytes, deviceSize: UInt64) throws(FormatError) {
        let found = Self.sectors.filter { VolumeLabel.lvm(Self.sector(start, $0), at: $0 * Self.sectorSize) != nil }
        guard let first = found.first else { return nil }
        guard let number = found.first(where: { Self.isSound(Self.sector(start, $0)) }) else {
            throw .damaged(
                "label of an LVM physical volume: checksum", at: first * Self.sectorSize + 16,
                found: Self.sector(start, first).little(16, UInt32.self),
                allowed: "\(Self.checksum(Self.sector(start, first)))")
        }
        try self.init(Self.sector(start, number), at: number * Self.sectorSize, deviceSize: deviceSize)
    }

    private static func checksum(_ sector: SuperblockBytes) -> UInt32 {
        LVMChecksum.of(sector.field(20, Int(sectorSize) - 20))
    }

    private static func isSound(_ sector: SuperblockBytes) -> Bool {
        sector.field(0, Int(sectorSize)).count == sectorSize && sector.little(16, UInt32.self) == checksum(sector)
    }

    /// The header: 32 characters, the size of the device, and two lists of places, each ended by zeros.
    private init(_ sector: SuperblockBytes, at place: UInt64, deviceSize: UInt64) throws(FormatError) {
        func fault(_ field: String, _ at: Int, _ found: String, _ allowed: String) -> FormatError {
            .damaged("LVM physical volume: \(field)", at: place + UInt64(at), found: found, allowed: allowed)
        }
        let header = Int(sector.little(20, UInt32.self))
        guard header >= 32, header <= Int(Self.sectorSize) - 72 else {
            throw fault("place of its header", 20, "\(header)", "32 to \(Self.sectorSize - 72)")
        }
        let name = sector.field(header, 32)
        guard name.allSatisfy(LVMName.isIdentifierByte) else {
            throw fault("identifier", header, "other characters", "letters and digits")
        }
        identifier = String(decoding: name, as: UTF8.self)
        var position = header + 40
        /// The next list; one that is not ended within the sector is not a list.
        func areas() throws(FormatError) -> [(at: Int, offset: UInt64, size: UInt64)] {
            var areas: [(at: Int, offset: UInt64, size: UInt64)] = []
            while position + 16 <= Int(Self.sectorSize) {
                let offset = sector.little(position, UInt64.self)
                guard offset != 0 else {
                    position += 16
                    return areas
                }
                areas.append((position, offset, sector.little(position + 8, UInt64.self)))
                position += 16
            }
            throw fault("places of its areas", header + 40, "a list without an end", "one that ends with zeros")
        }
        let data = try areas()
        guard data.count == 1, let only = data.first else {
            throw fault("data areas", header + 40, "\(data.count)", "1")
        }
        // 0 means to the end of the device.
        let end = only.offset.addingReportingOverflow(only.size)
        guard !end.overflow else {
            throw fault("data area", only.at, "\(only.size) bytes from \(only.offset)", "an end within 64 bits")
        }
        self.data = (only.offset, only.size == 0 ? nil : end.partialValue)
        var metadataAreas: [ByteRange] = []
        for area in try areas() {
            guard let range = ByteRange(offset: area.offset, length: area.size) else {
                throw fault("metadata area", area.at, "\(area.size) bytes from \(area.offset)", "an end within 64 bits")
            }
            metadataAreas.append(range)
        }
        self.metadataAreas = metadataAreas
    }
}
