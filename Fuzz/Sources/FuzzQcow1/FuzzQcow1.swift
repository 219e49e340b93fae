// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport

/// The disk behind images with a backing file: 3 sectors, which few images end with.
private let backing = MemoryDevice((0..<1536).map { UInt8(truncatingIfNeeded: $0) }, alignment: 512)

/// An image file: header, tables and data.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzQcow1(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let device = MemoryDevice(unsafe Array(UnsafeBufferPointer(start: start, count: count)))
    guard let header = try? QcowHeader(device: device) else { return 0 }
    let isSound = (try? QcowCensus.checkL1(file: device, header: header)) != nil
    // Overlapping tables cost a small part of what the program allows, so that inputs do not take long.
    if let census = try? QcowCensus(file: device, header: header, maximumTableBytes: 1 << 18) {
        precondition(census.compressedCount <= census.allocatedCount)
        precondition((census.faultCount == 0) == (census.firstFault == nil))
        precondition(isSound || census.faultCount > 0)
    }
    let image = QcowImage(
        file: device, header: header, cipher: header.encryption == .none ? nil : InvertingCipher(),
        backing: header.backingFile == nil ? nil : backing)
    let disk = AlignedDevice(image)
    checkExtents(disk)
    let size = disk.size
    for (offset, length) in [
        (0, 9000), (511, 2), (1024, 512), (1500, 36000), (size / 2, 1025), (size &- 513, 513),
    ] as [(UInt64, UInt64)]
    where offset < size {
        checkRead(disk, offset, Int(min(length, size - offset)))
    }
    return 0
}

/// Every extent begins where it was asked for, is not empty and ends within the limit; what it says of zeros is true.
private func checkExtents(_ disk: AlignedDevice) {
    var offset: UInt64 = 0
    for limit: UInt64 in [1, 511, 700, 9000] + Array(repeating: 1 << 40, count: 28) where offset < disk.size {
        guard let extent = try? disk.extent(at: offset, limit: limit) else { return }
        precondition(extent.offset == offset && extent.length > 0 && extent.length <= limit)
        precondition(extent.length <= disk.size - offset)
        if extent.kind == .unallocated || extent.kind == .zero {
            let count = Int(min(extent.length, 1024))
            precondition(read(disk, offset, count, .mayBlock, 0xFF) == [UInt8](repeating: 0, count: count))
        }
        offset += extent.length
    }
}

/// A read that succeeds fills every byte and gives the same again; one that must not wait gives the same or says so.
private func checkRead(_ disk: AlignedDevice, _ offset: UInt64, _ count: Int) {
    let first = read(disk, offset, count, .mayBlock, 0x00)
    precondition(first == read(disk, offset, count, .mayBlock, 0xFF))
    if let first, let cached = read(disk, offset, count, .cachedOnly, 0xAA) { precondition(cached == first) }
}

private func read(_ disk: AlignedDevice, _ offset: UInt64, _ count: Int, _ mode: ReadMode, _ fill: UInt8) -> [UInt8]? {
    var bytes = [UInt8](repeating: fill, count: count)
    do throws(BlockError) {
        try bytes.withMutableBytes { (span) throws(BlockError) in try disk.read(into: &span, at: offset, mode) }
        return bytes
    } catch {
        precondition(!mode.mayWait || error != .wouldBlock)
        return nil
    }
}
