// SPDX-License-Identifier: Apache-2.0

import Crypto
import DiskStack

/// The exact size of the disk in a LUKS container, and how it comes about.
struct LUKSDiskSize {
    /// In bytes; nil when it cannot be told, as the reason says.
    let byteCount: UInt64?
    /// For a person.
    let reason: String

    /// Reads nothing but the header.
    init(_ container: LUKSContainer) { (byteCount, reason) = Self.size(container) }

    private static func size(_ container: LUKSContainer) -> (UInt64?, String) {
        let volume = container.volume
        if let guestSize = container.guestSize {
            return (guestSize, "the size in the qcow2 header; LUKS takes nothing from it")
        }
        if volume.isInReencryption, !volume.isOnlyInitialised {
            return (nil, "unknown before the reencryption has ended")
        }
        for segment in volume.disk {
            switch segment.kind {
            case .linear, .crypt: break
            case .integrity: return (nil, "unknown: the tags of the integrity protection take up a part of the data")
            case .other(let type): return (nil, "unknown: segment \(segment.number) is of type \(type)")
            }
        }
        guard volume.requirements.isEmpty || volume.isOnlyInitialised else {
            return (nil, "unknown: the volume has requirements")
        }
        guard let dataSize = container.dataSize else {
            return (nil, "unknown: the file holds the header, not the data")
        }
        var total: UInt64 = 0
        var reasons: [String] = []
        for segment in volume.disk {
            guard segment.offset <= dataSize else { return (nil, "segment \(segment.number) starts beyond the data") }
            let rest = segment.size ?? dataSize - segment.offset
            let unit = UInt64(segment.sectorSize)
            let (sum, overflow) = total.addingReportingOverflow(rest / unit * unit)
            guard !overflow, rest <= dataSize - segment.offset else {
                return (nil, "segment \(segment.number) ends beyond the data")
            }
            total = sum
            let name = volume.disk.count > 1 ? "segment \(segment.number): " : ""
            let rounding = rest % unit == 0 ? "" : ", rounded down to sectors of \(unit)"
            reasons.append(
                segment.size == nil
                    ? "\(name)\(dataSize) bytes of data less \(segment.offset) before the payload\(rounding)"
                    : "\(name)\(rest) bytes, as the header says\(rounding)")
        }
        return (total, reasons.joined(separator: "; "))
    }
}
