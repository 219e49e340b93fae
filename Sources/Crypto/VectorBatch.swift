// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The initialization vectors of up to 64 sectors, one behind the other.
@safe
struct VectorBatch: ~Copyable {
    /// How many sectors are transformed at once: of 512 bytes, few enough for the first-level cache, and enough to make
    /// the cost of a call vanish.
    static let capacity = 64

    /// The size of a vector in bytes: 8 or 16, which is the block size of the cipher.
    let size: Int
    /// How many there are.
    let count: Int
    /// In the order of memory, whatever the order of the processor.
    private var words = InlineArray<128, UInt64>(repeating: 0)

    /// `count` vectors of zeros.
    init(size: Int, count: Int) {
        precondition((size == 8 || size == 16) && (0...Self.capacity).contains(count))
        self.size = size
        self.count = count
    }

    /// For modes without vectors.
    static var none: VectorBatch { VectorBatch(size: 16, count: 0) }

    /// Stores in the first 8 bytes of each vector what `word` makes of the number of its sector.
    /// - Parameter step: from the number of a sector to that of the next one.
    @inline(__always)
    mutating func setEachFirst(from number: UInt64, _ step: UInt64, _ word: (UInt64) -> UInt64) {
        setEach(0, from: number, step, word)
    }

    /// The same in the last 8 bytes.
    @inline(__always)
    mutating func setEachLast(from number: UInt64, _ step: UInt64, _ word: (UInt64) -> UInt64) {
        setEach(size / 8 - 1, from: number, step, word)
    }

    @inline(__always)
    private mutating func setEach(_ first: Int, from number: UInt64, _ step: UInt64, _ word: (UInt64) -> UInt64) {
        // Through a span: a subscript of the array, a kilobyte, copies all of it.
        var words = words.mutableSpan
        var number = number
        for place in stride(from: first, to: first + count * size / 8, by: size / 8) {
            words[place] = word(number)
            number = number.addingReportingOverflow(step).partialValue
        }
    }

    /// The vector at `index`, of 16 bytes, as a big-endian number.
    func bigEndianNumber(at index: Int) -> UInt128 {
        precondition(size == 16 && (0..<count).contains(index))
        let words = words.span
        return UInt128(UInt64(bigEndian: words[2 * index])) << 64 | UInt128(UInt64(bigEndian: words[2 * index + 1]))
    }

    /// Gives `body` all vectors, `size` bytes each, to change.
    mutating func withMutableBytes<Result, Failure: Error>(
        _ body: (inout MutableRawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var elements = words.mutableSpan
        var bytes = unsafe elements.mutableBytes
        return try bytes.withSlice(0..<(size * count), body)
    }

    /// Gives `body` the place of the first vector, or nil when there is none.
    func withStart<Result>(_ body: (UnsafeRawPointer?) -> Result) -> Result {
        unsafe words.span.withUnsafeBytes { bytes in unsafe body(count == 0 ? nil : bytes.baseAddress) }
    }
}
