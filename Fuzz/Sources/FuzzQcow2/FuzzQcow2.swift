// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport

/// An image file: header, tables and data.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzQcow2(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let device = MemoryDevice(unsafe Array(UnsafeBufferPointer(start: start, count: count)))
    guard let header = try? Qcow2Header(device: device) else { return 0 }
    guard (try? Qcow2Support.check(header)) != nil else { return 0 }
    _ = try? Qcow2Census.checkL1(file: device, header: header)
    _ = try? Qcow2Census(file: device, header: header)
    let image = Qcow2Image(
        file: device, header: header, cipher: header.encryption == .none ? nil : InvertingCipher(),
        backing: header.backingFile == nil ? nil : MemoryDevice(Array(repeating: 0x42, count: 5000)))
    let disk = AlignedDevice(image)
    checkExtents(disk)
    let size = disk.size
    for (offset, length) in [(0, 9000), (511, 2), (1024, 512), (size / 2, 1025), (size &- 513, 513)]
        as [(UInt64, UInt64)]
    where offset < size {
        checkRead(disk, offset, Int(min(length, size - offset)))
    }
    return 0
}

/// Every extent begins where it was asked for, is not empty and ends within the limit.
private func checkExtents(_ disk: AlignedDevice) {
    var offset: UInt64 = 0
    for _ in 0..<64 where offset < disk.size {
        guard let extent = try? disk.extent(at: offset, limit: 1 << 40) else { return }
        precondition(extent.offset == offset && extent.length > 0 && extent.length <= 1 << 40)
        precondition(extent.length <= disk.size - offset)
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
