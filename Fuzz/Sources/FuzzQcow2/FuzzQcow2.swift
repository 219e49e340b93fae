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
    _ = try? MappedCensus.checkL1(file: device, header: header)
    _ = try? MappedCensus(file: device, header: header)
    let image = Qcow2Image(
        file: device, header: header, cipher: header.encryption == .none ? nil : InvertingCipher(),
        backing: header.backingFile == nil ? nil : MemoryDevice(Array(repeating: 0x42, count: 5000)))
    AlignedDevice(image).checkRules((8100, 700))
    return 0
}
