// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Reads the decrypted view within a budget and knows which bytes have passed the cipher.
///
/// Errors and exhausted budgets are all the same to the content check: these bytes say nothing.
struct EvidenceReader {
    /// In bytes; the unit that legacy AES encrypts.
    static let sectorSize: UInt64 = 512

    private let device: AlignedDevice
    /// How many more extents may be asked for.
    private(set) var extentBudget: Int
    /// How many more bytes may be read.
    private var byteBudget: Int
    /// The last answer: structures lie close together.
    private var latest: Extent?

    /// Length of the view in bytes.
    var size: UInt64 { device.size }

    init(_ device: any BlockDevice, extentBudget: Int, byteBudget: Int) {
        self.device = AlignedDevice(device)
        self.extentBudget = extentBudget
        self.byteBudget = byteBudget
    }

    /// The extent from `offset` on; nil when that cannot be said.
    mutating func extent(at offset: UInt64) -> Extent? {
        guard offset < size else { return nil }
        if let latest, latest.offset <= offset, offset - latest.offset < latest.length {
            return Extent(
                offset: offset, length: latest.length - (offset - latest.offset), kind: latest.kind)
        }
        guard extentBudget > 0 else { return nil }
        extentBudget -= 1
        latest = try? device.extent(at: offset, limit: size - offset)
        return latest
    }

    /// Any bytes, stored or not; nil when they do not lie in the view or cannot be read.
    mutating func region(at offset: UInt64, count: Int) -> EvidenceRegion? {
        guard let range = ByteRange(offset: offset, length: UInt64(count)), range.fits(size) else { return nil }
        let start = offset / Self.sectorSize * Self.sectorSize
        let ragged = range.end % Self.sectorSize
        let end = ragged == 0 ? range.end : range.end + min(size - range.end, Self.sectorSize - ragged)
        guard let sectors = stored(at: start, count: Int(end - start)) else { return nil }
        let bytes = sectors[Int(offset - start)...].prefix(count)
        return EvidenceRegion(Array(bytes), isEvidence: isEvidence(sectors, at: start))
    }

    /// Reads bytes that the caller knows to lie in the view.
    mutating func stored(at offset: UInt64, count: Int) -> [UInt8]? {
        guard count <= byteBudget else { return nil }
        byteBudget -= count
        return try? device.read(count: count, at: offset)
    }

    /// Have all these sectors passed the cipher, and been written before that?
    private mutating func isEvidence(_ sectors: [UInt8], at offset: UInt64) -> Bool {
        let size = Int(Self.sectorSize)
        return stride(from: 0, to: sectors.count, by: size).allSatisfy { start in
            guard start + size <= sectors.count, let extent = extent(at: offset + UInt64(start)) else { return false }
            return extent.kind == .data && extent.length >= Self.sectorSize
                && SectorCharacter(sectors[start..<(start + size)]) != .repetitive
        }
    }
}
