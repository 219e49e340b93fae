// SPDX-License-Identifier: Apache-2.0

/// Decodes big-endian fields one after the other.
///
/// Reading past the end gives nil: the caller says in its own words what is missing.
public struct ByteReader {
    private let bytes: ArraySlice<UInt8>
    private var position: Int

    /// Starts at the first byte of a slice.
    public init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        self.position = bytes.startIndex
    }

    /// Starts at the first byte of an array.
    public init(_ bytes: [UInt8]) { self.init(bytes[...]) }

    /// How many bytes are left.
    public var remaining: Int { bytes.endIndex - position }

    /// The next `count` bytes.
    public mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
        guard count >= 0, count <= remaining else { return nil }
        defer { position += count }
        return bytes[position..<(position + count)]
    }

    /// The next big-endian integer.
    public mutating func integer<T: FixedWidthInteger & UnsignedInteger>(_ type: T.Type = T.self) -> T? {
        guard let field = take(T.bitWidth / 8) else { return nil }
        return field.reduce(0 as T) { value, byte in T(truncatingIfNeeded: UInt64(value) << 8 | UInt64(byte)) }
    }
}

extension [UInt8] {
    /// Appends an integer in big-endian order.
    public mutating func append<T: FixedWidthInteger & UnsignedInteger>(bigEndian value: T) {
        for shift in stride(from: T.bitWidth - 8, through: 0, by: -8) {
            append(UInt8(truncatingIfNeeded: value >> T(shift)))
        }
    }
}
