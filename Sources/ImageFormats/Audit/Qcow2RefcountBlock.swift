// SPDX-License-Identifier: Apache-2.0

/// How reference counts lie in a block: big-endian numbers of 2^``order`` bits; those smaller than a byte are counted from its
/// low bits.
///
/// Source: qcow2 specification, "Refcount blocks".
struct Qcow2RefcountBlock {
    /// refcount_order.
    let order: Int
    /// Clusters that a block is about: log2.
    let blockBits: UInt64

    init(_ header: Qcow2Header) {
        order = Int(header.refcountOrder)
        blockBits = UInt64(header.clusterBits + 3) - UInt64(header.refcountOrder)
    }

    /// The largest count.
    var maximum: UInt64 { order == 6 ? .max : 1 << (1 << UInt64(order)) - 1 }

    /// The count at a bit of a piece of a block, at most one less than ``Qcow2AuditWindow/unknown``. What lies behind the end
    /// is 0.
    func count(in bytes: [UInt8], atBit bit: Int) -> UInt32 {
        let first = bit / 8
        guard order >= 3 else {
            guard first < bytes.count else { return 0 }
            return UInt32(bytes[first] >> UInt8(bit % 8)) & UInt32(maximum)
        }
        let width = 1 << (order - 3)
        guard first + width <= bytes.count else { return 0 }
        var value: UInt64 = 0
        for byte in bytes[first..<(first + width)] { value = value << 8 | UInt64(byte) }
        return UInt32(min(value, UInt64(Qcow2AuditWindow.unknown - 1)))
    }

    /// Replaces the count at a bit of a piece of a block, which is there in full.
    ///
    /// - Parameter count: at most ``maximum``.
    func set(_ count: UInt32, in bytes: inout [UInt8], atBit bit: Int) {
        let first = bit / 8
        guard order >= 3 else {
            let shift = UInt8(bit % 8)
            bytes[first] = bytes[first] & ~(UInt8(maximum) << shift) | UInt8(truncatingIfNeeded: count) << shift
            return
        }
        var rest = UInt64(count)
        for index in (first..<(first + 1 << (order - 3))).reversed() {
            bytes[index] = UInt8(truncatingIfNeeded: rest)
            rest >>= 8
        }
    }
}
