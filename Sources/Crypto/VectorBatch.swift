// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The initialization vectors of up to 64 sectors, one behind the other.
@safe
struct VectorBatch: ~Copyable {
    /// How many sectors are decrypted at once: of 512 bytes, few enough for the first-level cache, and enough to make
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

    // Through spans: a subscript of the array, a kilobyte, copies all of it.

    /// Stores a number in the first 8 bytes of a vector, least significant byte first.
    mutating func setLittleEndian(_ value: UInt64, at index: Int) {
        var words = words.mutableSpan
        words[index * size / 8] = value.littleEndian
    }

    /// Stores a number in the last 8 bytes of a vector, most significant byte first.
    mutating func setBigEndian(_ value: UInt64, at index: Int) {
        var words = words.mutableSpan
        words[(index + 1) * size / 8 - 1] = value.bigEndian
    }

    /// Gives `body` all vectors to change, `size` / 8 words each, as they are in memory.
    mutating func withWords(_ body: (inout MutableSpan<UInt64>) -> Void) {
        var words = words.mutableSpan
        body(&words)
    }

    /// Gives `body` the vectors to change.
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
