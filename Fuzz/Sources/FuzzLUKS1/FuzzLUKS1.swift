// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import TestSupport

/// A LUKS1 header: three bytes that say how large the volume is and whether its data is elsewhere, then the header.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzLUKS1(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard input.count >= 3 else { return 0 }
    let isDetached = input[0] & 1 == 1
    let device = LUKSHeaderDevice(Array(input[3...]), size: 1 << UInt64(input[1] % 44) + UInt64(input[2]))
    let dataSize: UInt64? = isDetached ? (input[0] & 2 == 2 ? nil : 1 << UInt64(input[0] >> 2)) : device.size
    guard let volume = try? LUKSVolume.read(from: device, dataSize: dataSize, isDetached: isDetached),
        volume.version == 1
    else { return 0 }
    precondition(volume.keyslots.count <= 8 && volume.digests.count == 1 && volume.segments.count == 1)
    precondition(volume.digests[0].keyslots == volume.keyslots.map(\.number))
    let areas = volume.keyslots.map(\.area).sorted { $0.offset < $1.offset }
    precondition(areas.allSatisfy { $0.fits(device.size) && $0.fits(volume.headerSize) && $0.offset >= 592 })
    precondition(zip(areas, areas.dropFirst()).allSatisfy { $0.end <= $1.offset })
    for keyslot in volume.keyslots {
        precondition((1...512).contains(keyslot.keySize) && keyslot.stripes == 4000)
        precondition(keyslot.area.length >= UInt64(keyslot.keySize * 4000))
    }
    if !isDetached { precondition(volume.segments[0].offset >= volume.headerSize) }
    if let dataSize { precondition(volume.segments[0].offset < dataSize) }
    let data = isDetached ? LUKSHeaderDevice([], size: dataSize ?? 1 << 40) : device
    precondition(LUKSServedBytes.inTheClear(volume, over: data) == nil)
    return 0
}
