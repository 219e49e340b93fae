// SPDX-License-Identifier: Apache-2.0

import BlockIO
import ImageFormats
import TestSupport

/// An image file: the bitmaps extension, the bitmap directory, tables and bits.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzQcow2Bitmaps(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    let device = MemoryDevice(bytes)
    guard let header = try? Qcow2Header(device: device) else { return 0 }
    let bitmaps: [Qcow2Bitmap]
    do throws(FormatError) {
        bitmaps = try Qcow2Bitmap.all(of: device, header, cache: ImageCache())
    } catch {
        precondition(header.extensions.hasBitmaps && error.code == .damaged)
        precondition(Qcow2Bitmap.warning(header) == nil)
        return 0
    }
    // Out of date, or not there.
    if Qcow2Bitmap.warning(header) != nil || !header.extensions.hasBitmaps {
        precondition(bitmaps.isEmpty)
        return 0
    }
    // Entries have 24 bytes and a name.
    precondition(!bitmaps.isEmpty && bitmaps.count <= count / 32)
    precondition(Set(bitmaps.map(\.name)).count == bitmaps.count)
    for bitmap in bitmaps.prefix(4) { check(bitmap, size: header.virtualSize) }
    return 0
}

private func check(_ bitmap: Qcow2Bitmap, size: UInt64) {
    precondition(!bitmap.name.isEmpty && bitmap.name.utf8.count <= 3100)
    precondition(
        !bitmap.name.unicodeScalars.contains { $0.properties.generalCategory == .control })
    if let refusal = bitmap.refusal {
        precondition(refusal.description.contains(bitmap.name))
        precondition((try? bitmap.run(at: 0, limit: 1)) == nil)
        return
    }
    precondition(!bitmap.isInconsistent && 9...31 ~= bitmap.granularityBits)
    for start in [0, size / 3, size / 2, size &- 1] where start < size { walk(bitmap, from: start, size: size) }
    precondition((try? bitmap.run(at: size, limit: 1)) == nil)
}

/// Runs lie within the disk, and every byte of a run is as the run says.
private func walk(_ bitmap: Qcow2Bitmap, from start: UInt64, size: UInt64) {
    var offset = start
    for _ in 0..<16 where offset < size {
        guard let run = try? bitmap.run(at: offset, limit: .max) else { return }
        precondition(run.length > 0 && run.length <= size - offset)
        for place in [offset, offset + run.length / 2, offset + run.length - 1] {
            guard let single = try? bitmap.run(at: place, limit: 1) else {
                preconditionFailure("a byte of a run cannot be told")
            }
            precondition(single.isDirty == run.isDirty && single.length == 1)
        }
        offset += run.length
    }
}
