// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Reads the decrypted view within a budget and knows which bytes have passed the cipher.
///
/// Errors and exhausted budgets are all the same to the content check: these bytes say nothing.
struct EvidenceReader {
    /// In bytes; the unit that legacy AES encrypts.
    static let sectorSize: UInt64 = 512

    /// The view, as far as the budget of bytes goes; takes any offset and length.
    let device: BudgetedDevice
    /// How many more extents may be asked for.
    private(set) var extentBudget: Int
    /// The last answer: structures lie close together.
    private var latest: Extent?

    /// Length of the view in bytes.
    var size: UInt64 { device.size }

    init(_ device: any BlockDevice, extentBudget: Int, byteBudget: Int) {
        self.device = BudgetedDevice(device, byteBudget: byteBudget)
        self.extentBudget = extentBudget
    }

    /// The extent from `offset` on; nil when that cannot be said.
    mutating func extent(at offset: UInt64) -> Extent? {
        guard offset < size else { return nil }
        if let latest, latest.offset <= offset, offset - latest.offset < latest.length {
            return Extent(
                offset: offset, length: latest.length - (offset - latest.offset), kind: latest.kind, depth: latest.depth
            )
        }
        guard extentBudget > 0 else { return nil }
        extentBudget -= 1
        latest = try? device.extent(at: offset, limit: size - offset)
        return latest
    }

    /// Bytes, stored or not; nil when they do not lie in the view or cannot be read.
    func bytes(at offset: UInt64, count: Int) -> [UInt8]? {
        guard let range = ByteRange(offset: offset, length: UInt64(count)), range.fits(size) else { return nil }
        return try? device.read(count: count, at: offset)
    }

    /// The same, for looking at fields.
    func fields(at offset: UInt64, count: Int) -> SuperblockBytes? {
        bytes(at: offset, count: count).map { SuperblockBytes($0) }
    }

    /// Have all sectors that these bytes touch passed the cipher, and been written before that?
    mutating func isEvidence(at offset: UInt64, count: Int) -> Bool {
        guard let range = ByteRange(offset: offset, length: UInt64(count)) else { return false }
        let first = offset / Self.sectorSize * Self.sectorSize
        return stride(from: first, to: range.end, by: Int(Self.sectorSize)).allSatisfy { sector in
            guard let extent = extent(at: sector), extent.kind == .data, extent.length >= Self.sectorSize,
                let bytes = bytes(at: sector, count: Int(Self.sectorSize))
            else { return false }
            return bytes.withBytes { SectorCharacter($0) } != .repetitive
        }
    }
}
