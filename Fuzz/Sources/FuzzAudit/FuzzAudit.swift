// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport

@testable import ImageFormats

/// The file, and how small the windows are.
private struct Input {
    let file: [UInt8]
    let windowBits: Int

    /// The last byte says how many clusters are counted at a time.
    init(_ bytes: [UInt8]) {
        file = Array(bytes.dropLast())
        windowBits = Int((bytes.last ?? 0) % 12)
    }
}

/// An image file: header, tables, reference counts, snapshots and bitmaps.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzAudit(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let input = Input(unsafe Array(UnsafeBufferPointer(start: start, count: count)))
    let device = MemoryDevice(input.file)
    guard let header = try? Qcow2Header(device: device) else { return 0 }
    var told = -1.0
    let whole = Qcow2Audit(file: device, header: header, mapCells: mapCells, limits: limits(23)) { part in
        precondition(part > told && part <= 1)
        told = part
    }
    precondition(whole.faults.listed.count <= AuditFaults.maximumListed)
    precondition(whole.faults.total >= UInt64(whole.faults.listed.count))
    precondition(whole.lostClusterPlaces.count <= Qcow2Audit.maximumPlaces)
    for map in whole.maps {
        precondition(map.cells.count <= mapCells)
        for cell in map.cells {
            precondition(AuditMap.Kind.allCases.reduce(0) { $0 + cell[$1] } == cell.range.length)
        }
    }
    _ = AuditLeak.all(of: [AuditedLayer(name: "image", header, whole)])
    // Small windows find the same; they only take more work.
    let pieces = Qcow2Audit(
        file: device, header: header, mapCells: mapCells, limits: limits(input.windowBits))
    if whole.isComplete, pieces.isComplete {
        precondition(whole.faults.counts == pieces.faults.counts)
        precondition(whole.lostClusterCount == pieces.lostClusterCount)
        precondition(whole.compressedClusterCount == pieces.compressedClusterCount)
        // A map has the places of the faults that are listed; of more, others may be.
        if whole.faults.total == UInt64(whole.faults.listed.count) {
            precondition(whole.maps.map(\.cells) == pieces.maps.map(\.cells))
        }
    }
    return 0
}

/// In each map.
private let mapCells = 64

private func limits(_ windowBits: Int) -> Qcow2AuditLimits {
    Qcow2AuditLimits(windowBits: windowBits, tableCount: 256, work: 16 << 20, windowCount: 256)
}
