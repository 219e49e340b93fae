// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport

/// The disk behind images with a backing file: 3 sectors, which few images end with.
private let backing = MemoryDevice((0..<1536).map { UInt8(truncatingIfNeeded: $0) }, alignment: 512)

/// An image file: header, tables and data.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzQcow(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let device = MemoryDevice(unsafe Array(UnsafeBufferPointer(start: start, count: count)))
    guard let header = try? QcowHeader(device: device) else { return 0 }
    let isSound = (try? MappedCensus.checkL1(file: device, header: header)) != nil
    // Overlapping tables cost a small part of what the program allows, so that inputs do not take long.
    if let census = try? MappedCensus(file: device, header: header, maximumTableBytes: 1 << 18) {
        precondition(census.compressedCount <= census.allocatedCount)
        precondition((census.faultCount == 0) == (census.firstFault == nil))
        precondition(isSound || census.faultCount > 0)
    }
    let image = QcowImage(
        file: device, header: header, cipher: header.encryption == .none ? nil : InvertingCipher(),
        backing: header.backingFile == nil ? nil : backing)
    AlignedDevice(image).checkRules((1500, 36000))
    return 0
}
