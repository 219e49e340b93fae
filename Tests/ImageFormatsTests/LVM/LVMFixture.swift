// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport
import Testing

/// A physical volume whose data tells where it is: a sector holds its number, and that of the volume in the upper half.
///
/// Bytes that were written over it hide that.
final class LVMTestDevice: ReadOnlyDevice {
    let depth = 8
    let size: UInt64
    let alignment = 1
    private let number: UInt64
    private let sectors: [UInt64: [UInt8]]

    init(_ number: UInt64, size: UInt64, sectors: [UInt64: [UInt8]]) {
        self.number = number
        self.size = size
        self.sectors = sectors
    }

    /// What LVM has made, cut to what counts.
    convenience init(_ number: UInt64, fixture: String, size: UInt64? = nil) throws {
        let fixture = try ContentCheckFixture(fixture, in: "lvm")
        self.init(number, size: size ?? fixture.size, sectors: fixture.sectors)
    }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "test")
        for index in 0..<buffer.byteCount {
            let (sector, byte) = (offset + UInt64(index)).quotientAndRemainder(dividingBy: 512)
            let value = sectors[sector]?[Int(byte)] ?? Self.byte(number, sector, Int(byte))
            buffer.storeBytes(of: value, toByteOffset: index, as: UInt8.self)
        }
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) {}

    private static func byte(_ number: UInt64, _ sector: UInt64, _ byte: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: (number << 32 | sector) >> UInt64(8 * (byte % 8)))
    }
}

extension BlockDevice {
    /// Where the sector at `offset` comes from.
    func origin(at offset: UInt64) throws -> LVMOrigin {
        let bytes = try read(count: 8, at: offset)
        let value = bytes.reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        return LVMOrigin(volume: value >> 32, sector: value & 0xFFFF_FFFF)
    }
}

extension LVMPhysicalVolume {
    /// Alone on its disk.
    static func find(_ device: any BlockDevice, name: String) throws -> LVMPhysicalVolume? {
        var texts = LVMTexts()
        return try LVMPhysicalVolume(device, name: name, &texts)
    }
}

/// A sector of a physical volume of a test.
struct LVMOrigin: Equatable {
    let volume: UInt64
    let sector: UInt64
}

/// A physical volume made byte by byte: the label in sector 1, a metadata area of 64 KiB behind 4 KiB, data behind 1 MiB.
struct LVMFixture {
    var identifier = String(repeating: "a", count: 32)
    /// None for an area in which nothing was ever written; several are copies in areas of their own.
    var texts: [[UInt8]] = []
    var size: UInt64 = 4 << 20
    var dataStart: UInt64 = 1 << 20
    /// Of the first text in its ring.
    var textOffset: UInt64 = 512
    var isIgnored = false
    /// What is done to the sectors before checksums are computed.
    var change: (inout [UInt64: [UInt8]]) -> Void = { _ in }
    /// What is done to them afterwards.
    var damage: (inout [UInt64: [UInt8]]) -> Void = { _ in }

    static let areaSize: UInt64 = 64 << 10
    static let firstArea: UInt64 = 4096

    /// The text of a group with one physical volume and one linear volume of two extents of 64 KiB.
    static func text(
        group: String = "vg", seqno: Int = 1, members: String? = nil, volumes: String? = nil, more: String = ""
    ) -> String {
        """
        \(group) {
        id = "GGGGGG-GGGG-GGGG-GGGG-GGGG-GGGG-GGGGGG"
        seqno = \(seqno)
        format = "lvm2" # informational
        status = ["RESIZEABLE", "READ", "WRITE"]
        flags = []
        extent_size = 128
        \(more)
        physical_volumes {
        \(members ?? member())
        }
        logical_volumes {
        \(volumes ?? volume("data"))
        }
        }
        contents = "Text Format Volume Group"
        version = 1
        """
    }

    static func member(_ name: String = "pv0", letter: Character = "a", count: Int = 32, more: String = "") -> String {
        let groups = [6, 4, 4, 4, 4, 4, 6].map { String(repeating: letter, count: $0) }.joined(separator: "-")
        return """
            \(name) {
            id = "\(groups)"
            device = "/dev/sd\(letter)"
            status = ["ALLOCATABLE"]
            flags = []
            pe_start = 2048
            pe_count = \(count)
            \(more)
            }
            """
    }

    static func volume(_ name: String, status: String = "\"READ\", \"VISIBLE\"", segments: String...) -> String {
        let all = segments.isEmpty ? [segment()] : segments
        return """
            \(name) {
            id = "LLLLLL-LLLL-LLLL-LLLL-LLLL-LLLL-LLLLLL"
            status = [\(status)]
            flags = []
            segment_count = \(all.count)
            \(all.enumerated().map { "segment\($0 + 1) {\n\($1)\n}" }.joined(separator: "\n"))
            }
            """
    }

    static func segment(start: Int = 0, count: Int = 2, at extent: Int = 0, on holder: String = "pv0") -> String {
        """
        start_extent = \(start)
        extent_count = \(count)
        type = "striped"
        stripe_count = 1
        stripes = ["\(holder)", \(extent)]
        """
    }

    /// The device.
    func device(_ number: UInt64 = 1) -> LVMTestDevice {
        var sectors: [UInt64: [UInt8]] = [1: label]
        for (index, text) in texts.enumerated() { put(text, in: index, &sectors) }
        change(&sectors)
        for index in 0..<max(1, texts.count) {
            let header = (Self.firstArea + UInt64(index) * Self.areaSize) / 512
            if sectors[header] == nil { sectors[header] = areaHeader(index, text: nil) }
            Self.seal(&sectors[header, default: []], at: 0, from: 4)
        }
        Self.seal(&sectors[1, default: []], at: 16, from: 20)
        damage(&sectors)
        return LVMTestDevice(number, size: size, sectors: sectors)
    }

    /// What is found on it.
    func volume(_ number: UInt64 = 1) throws -> LVMPhysicalVolume? {
        try LVMPhysicalVolume.find(device(number), name: "partition \(number)")
    }

    private var label: [UInt8] {
        var label = Array("LABELONE".utf8) + Self.little(1 as UInt64) + [0, 0, 0, 0] + Self.little(32 as UInt32)
        label += Array("LVM2 001".utf8) + Array(identifier.utf8) + Self.little(size)
        label += Self.little(dataStart) + Self.little(0 as UInt64) + [UInt8](repeating: 0, count: 16)
        for index in 0..<max(1, texts.count) {
            label += Self.little(Self.firstArea + UInt64(index) * Self.areaSize) + Self.little(Self.areaSize)
        }
        return label + [UInt8](repeating: 0, count: 512 - label.count)
    }

    private func areaHeader(_ index: Int, text: [UInt8]?) -> [UInt8] {
        var header = [0, 0, 0, 0] + Array(" LVM2 x[5A%r0N*>".utf8) + Self.little(1 as UInt32)
        header += Self.little(Self.firstArea + UInt64(index) * Self.areaSize) + Self.little(Self.areaSize)
        if let text {
            header += Self.little(textOffset) + Self.little(UInt64(text.count))
            header += Self.little(TableCRC32.lvm(text)) + Self.little(isIgnored ? 1 : 0 as UInt32)
        }
        return header + [UInt8](repeating: 0, count: 512 - header.count)
    }

    private func put(_ text: [UInt8], in index: Int, _ sectors: inout [UInt64: [UInt8]]) {
        let area = Self.firstArea + UInt64(index) * Self.areaSize
        sectors[area / 512] = areaHeader(index, text: text)
        for (number, byte) in text.enumerated() {
            let offset = textOffset + UInt64(number)
            let place = area + (offset < Self.areaSize ? offset : offset - Self.areaSize + 512)
            sectors[place / 512, default: [UInt8](repeating: 0, count: 512)][Int(place % 512)] = byte
        }
    }

    static func seal(_ sector: inout [UInt8], at field: Int, from start: Int) {
        sector.replaceSubrange(field..<(field + 4), with: little(TableCRC32.lvm(Array(sector[start...]))))
    }

    static func little<T: FixedWidthInteger & UnsignedInteger>(_ value: T) -> [UInt8] {
        (0..<(T.bitWidth / 8)).map { UInt8(truncatingIfNeeded: value >> T(8 * $0)) }
    }
}
