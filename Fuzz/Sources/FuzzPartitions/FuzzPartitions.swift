// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport

/// Tables of partitions need no more, and small disks are fast.
private let mostBytes = 8192

/// A disk, behind a byte that says what to make of it: bits 0 and 1 the sector size (to be found out, 512, 4096), bit 2
/// to make the checksums of GPT headers right, bit 3 to read in whole sectors only, bit 4 to take every 512 bytes for the
/// beginning of a sector of 4096 bytes, bits 5 and 6 other sector sizes (1024, 2048), which also stretch what bit 4 does.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzPartitions(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: min(count, 1 + mostBytes)))
    guard let choice = input.first else { return 0 }
    let other: Int? = [nil, 1024, 2048, nil][Int(choice >> 5 & 3)]
    let sectorSize: Int? = [nil, 512, other ?? 4096, nil][Int(choice & 3)]
    let unit = other ?? 4096
    var bytes = Array(input.dropFirst())
    if choice & 16 != 0 {
        bytes = stride(from: 0, to: bytes.count, by: 512).flatMap { start in
            let sector = bytes[start..<min(bytes.count, start + 512)]
            return sector + [UInt8](repeating: 0, count: unit - sector.count)
        }
    }
    if choice & 4 != 0 {
        for size in PartitionTable.sectorSizes where bytes.count >= 2 * size {
            seal(&bytes, header: size, size)
            seal(&bytes, header: bytes.count / size * size - size, size)
        }
    }
    let alignment = choice & 8 != 0 ? 512 : 1
    if alignment > 1 { bytes.removeLast(bytes.count % alignment) }
    let device = MemoryDevice(bytes, alignment: alignment)
    if let table = try? PartitionTable(device, sectorSize: sectorSize) {
        precondition(sectorSize == nil || table.sectorSize == sectorSize)
        check(table, device)
        // What was found out is what comes of saying it.
        precondition((try? PartitionTable(device, sectorSize: table.sectorSize))?.partitions == table.partitions)
    }
    precondition(device.readCount < 30_000)
    return 0
}

private func check(_ table: PartitionTable, _ device: MemoryDevice) {
    precondition(PartitionTable.sectorSizes.contains(table.sectorSize))
    precondition(table.warnings.count <= 21 && table.warnings.allSatisfy { isPrintable($0) && $0.utf8.count < 512 })
    var number = 0
    for partition in table.partitions {
        precondition(partition.number > number && partition.number <= (table.kind == .mbr ? 255 : 16384))
        number = partition.number
        precondition(partition.range.length > 0 && partition.range.fits(device.size))
        precondition((partition.range.offset | partition.range.length) % UInt64(table.sectorSize) == 0)
        precondition(isPrintable(partition.name) && partition.name.unicodeScalars.count <= 36)
        precondition(partition.type.utf8.count == (table.kind == .mbr ? 4 : 36))
        let window = WindowDevice(AlignedDevice(device), partition.range)
        precondition((try? window.read(count: 512, at: window.size - 512)) != nil)
    }
}

private func isPrintable(_ text: String) -> Bool { text.unicodeScalars.allSatisfy(\.isShown) }

/// Makes the checksum of a header right, and that of its entries when they lie on the disk.
private func seal(_ bytes: inout [UInt8], header: Int, _ sectorSize: Int) {
    func field(_ offset: Int) -> Int { (0..<4).reduce(0) { $0 | Int(bytes[header + offset + $1]) << (8 * $1) } }
    func put(_ value: UInt32, _ offset: Int) {
        for index in 0..<4 { bytes[header + offset + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * index)) }
    }
    guard bytes[header..<(header + 8)].elementsEqual("EFI PART".utf8) else { return }
    let (start, tooFar) = field(72).multipliedReportingOverflow(by: sectorSize)
    let (byteCount, tooMany) = field(80).multipliedReportingOverflow(by: field(84))
    if !tooFar, !tooMany, start < bytes.count, byteCount <= min(4096, bytes.count - start) {
        put(TableCRC32.checksum(bytes[start..<(start + byteCount)]), 88)
    }
    put(0, 16)
    let end = header + field(12)
    guard end <= bytes.count, field(12) <= 4096 else { return }
    put(TableCRC32.checksum(bytes[header..<end]), 16)
}
