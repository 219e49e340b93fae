// SPDX-License-Identifier: Apache-2.0

/// A range cut at multiples of a size, piece after piece.
struct RangePieces: IteratorProtocol {
    private var rest: ByteRange
    private let size: UInt64

    init(_ range: ByteRange, size: UInt64) {
        rest = range
        self.size = size
    }

    mutating func next() -> ByteRange? {
        guard rest.length > 0 else { return nil }
        let length = min(rest.length, size - rest.offset % size)
        defer { rest = ByteRange(offset: rest.offset + length, length: rest.length - length) ?? .empty }
        return ByteRange(offset: rest.offset, length: length)
    }
}
