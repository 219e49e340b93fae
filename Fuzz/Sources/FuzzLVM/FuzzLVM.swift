// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport

/// Of one physical volume in the input; the rest of it is zeros.
private let mostBytes = 24 << 10

/// One or two physical volumes, behind a byte that says what to make of them: bit 0 to make checksums right, bit 1 to take
/// the bytes from 12 KiB on for the second one, bit 2 for disks that end with what is in the input, bit 3 to read in whole
/// sectors only.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzLVM(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: min(count, 1 + mostBytes)))
    guard let choice = input.first else { return 0 }
    let all = Array(input.dropFirst())
    let pieces = choice & 2 != 0 ? [Array(all.prefix(mostBytes / 2)), Array(all.dropFirst(mostBytes / 2))] : [all]
    var texts = LVMTexts()
    var found: [LVMPhysicalVolume] = []
    for (number, piece) in pieces.enumerated() {
        var bytes = piece
        if choice & 1 != 0 { seal(&bytes) }
        let device = LongDevice(
            bytes, size: choice & 4 != 0 ? UInt64(bytes.count / 512 * 512) : 1 << 40,
            alignment: choice & 8 != 0 ? 512 : 1)
        if let physical = try? LVMPhysicalVolume(device, name: "partition \(number + 1)", &texts) {
            found.append(physical)
        }
    }
    check(LVMAssembly(found))
    return 0
}

private func check(_ assembly: LVMAssembly) {
    precondition(assembly.faults.count <= 16)
    for fault in assembly.faults { check(fault) }
    for group in assembly.groups {
        precondition(isName(group.name))
        for volume in group.volumes.prefix(64) {
            precondition(isName(volume.name) && isPrintable(volume.type))
            do throws(FormatError) {
                let disk = try volume.disk()
                precondition(disk.size == volume.size)
                check(disk)
            } catch { check(error) }
        }
    }
}

/// The device below refuses what is not on it, and fails for no other reason.
private func check(_ disk: any BlockDevice) {
    let disk = AlignedDevice.lifting(disk)
    for place in [0, disk.size / 2, disk.size - min(disk.size, 700)] where place < disk.size {
        let count = min(700, disk.size - place)
        precondition((try? disk.read(count: Int(count), at: place)) != nil)
        guard let extent = try? disk.extent(at: place, limit: count) else { preconditionFailure() }
        precondition(extent.offset == place && extent.length > 0 && extent.length <= count)
        disk.prefetch(place, count, Budget(looks: 1000))
    }
}

private func check(_ error: FormatError) {
    precondition(error.description.utf8.count < 2048 && isPrintable(error.description))
}

private func isName(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= 127
        && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "/") }
}

private func isPrintable(_ text: String) -> Bool { text.unicodeScalars.allSatisfy(\.isShown) }

/// Some bytes, and zeros behind them.
private final class LongDevice: ReadOnlyDevice {
    let depth = 8
    let size: UInt64
    let alignment: Int
    private let bytes: [UInt8]

    init(_ bytes: [UInt8], size: UInt64, alignment: Int) {
        self.bytes = bytes
        self.size = size
        self.alignment = alignment
    }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "fuzz")
        buffer.clear()
        guard offset < bytes.count else { return }
        let range = Int(offset)..<min(bytes.count, Int(offset) + buffer.byteCount)
        buffer.withSlice(0..<range.count) { slice in
            bytes.withBytes { slice.copy(from: $0.extracting(range)) }
        }
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("fuzz: there is no byte \(offset)") }
        return Extent(offset: offset, length: min(limit, size - offset), kind: .data)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) { precondition(range.end <= size) }
}

// MARK: Checksums

/// A little-endian field; nil when it does not lie in the bytes, or is more than any place in them.
private func field(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> Int? {
    guard offset + count <= bytes.count else { return nil }
    let value = bytes[offset..<(offset + count)].reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    return value < 1 << 20 ? Int(value) : nil
}

/// Makes the checksums of the text, of the header of its area and of the label right, as far as they lie in the bytes.
private func seal(_ bytes: inout [UInt8]) {
    for sector in 0..<4 where bytes.count >= 512 * (sector + 1) {
        let label = 512 * sector
        guard bytes[label..<(label + 8)].elementsEqual("LABELONE".utf8) else { continue }
        // The first metadata area of the second list, when the first list has one entry.
        if let header = field(bytes, label + 20, 4), let area = field(bytes, label + header + 72, 8) {
            sealArea(&bytes, area)
        }
        put(TableCRC32.lvm(bytes[(label + 20)..<(label + 512)]), &bytes, label + 16)
    }
}

private func sealArea(_ bytes: inout [UInt8], _ area: Int) {
    guard area + 512 <= bytes.count else { return }
    if let ring = field(bytes, area + 32, 8), let offset = field(bytes, area + 40, 8),
        let length = field(bytes, area + 48, 8), offset < ring, area + ring <= bytes.count, length <= ring - 512
    {
        let rest = max(0, offset + length - ring)
        let text = bytes[(area + offset)..<(area + offset + length - rest)]
        put(TableCRC32.lvm(Array(text) + bytes[(area + 512)..<(area + 512 + rest)]), &bytes, area + 56)
    }
    put(TableCRC32.lvm(bytes[(area + 4)..<(area + 512)]), &bytes, area)
}

private func put(_ value: UInt32, _ bytes: inout [UInt8], _ offset: Int) {
    for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * index)) }
}
