// SPDX-License-Identifier: Apache-2.0

/// Some bytes of the decrypted view, with accessors for the fields of superblocks.
///
/// A field that does not lie in the region reads as zeros: recognisers name fixed places, and what they accept there
/// is never all zeros.
struct SuperblockBytes {
    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// The bytes of a field; shorter, or none, where the region ends before it.
    func field(_ offset: Int, _ count: Int) -> ArraySlice<UInt8> {
        let start = min(max(0, offset), bytes.count)
        return bytes[start..<min(bytes.count, start + max(0, count))]
    }

    /// Does this text stand at `offset`?
    func has(_ text: String, at offset: Int) -> Bool { field(offset, text.utf8.count).elementsEqual(text.utf8) }

    /// A field of one byte.
    func byte(_ offset: Int) -> UInt8 { field(offset, 1).first ?? 0 }

    /// A little-endian field.
    func little<T: FixedWidthInteger & UnsignedInteger>(_ offset: Int, _ type: T.Type) -> T {
        Self.value(field(offset, T.bitWidth / 8).reversed())
    }

    /// A big-endian field.
    func big<T: FixedWidthInteger & UnsignedInteger>(_ offset: Int, _ type: T.Type) -> T {
        Self.value(field(offset, T.bitWidth / 8))
    }

    /// Are all bytes of the field zero?
    func isZero(_ offset: Int, _ count: Int) -> Bool { field(offset, count).allSatisfy { $0 == 0 } }

    private static func value<T: FixedWidthInteger & UnsignedInteger>(_ bytes: some Sequence<UInt8>) -> T {
        bytes.reduce(0) { value, byte in T(truncatingIfNeeded: UInt64(value) << 8 | UInt64(byte)) }
    }
}
