// SPDX-License-Identifier: Apache-2.0

/// A run of bytes whose end is known to fit 64 bits.
public struct ByteRange: Equatable, Sendable {
    /// The first byte.
    public let offset: UInt64
    /// How many bytes.
    public let length: UInt64

    /// Nothing, at the start.
    public static let empty = ByteRange(unchecked: 0, length: 0)

    /// Nil when the end does not fit 64 bits.
    public init?(offset: UInt64, length: UInt64) {
        guard !offset.addingReportingOverflow(length).overflow else { return nil }
        self.offset = offset
        self.length = length
    }

    private init(unchecked offset: UInt64, length: UInt64) {
        self.offset = offset
        self.length = length
    }

    /// The byte after the last one.
    public var end: UInt64 { offset + length }

    /// Does the range lie within the first `size` bytes?
    public func fits(_ size: UInt64) -> Bool { end <= size }
}
