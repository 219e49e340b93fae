// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The initialization vectors of up to 64 sectors, one behind the other.
@safe
struct VectorBatch {
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

    /// Stores a number in the first 8 bytes of a vector, least significant byte first.
    mutating func setLittleEndian(_ value: UInt64, at index: Int) {
        words[index * size / 8] = value.littleEndian
    }

    /// Stores a number in the last 8 bytes of a vector, most significant byte first.
    mutating func setBigEndian(_ value: UInt64, at index: Int) {
        words[(index + 1) * size / 8 - 1] = value.bigEndian
    }

    /// The first 8 bytes of a vector, and the last, as they are in memory.
    func memoryWords(at index: Int) -> (first: UInt64, last: UInt64) {
        (words[index * size / 8], words[(index + 1) * size / 8 - 1])
    }

    /// Stores the first 8 bytes of a vector, and the last, as they are to be in memory.
    mutating func setMemoryWords(_ value: (first: UInt64, last: UInt64), at index: Int) {
        words[index * size / 8] = value.first
        words[(index + 1) * size / 8 - 1] = value.last
    }

    /// Gives `body` the vectors to change.
    mutating func withMutableBytes<Result, Failure: Error>(
        _ body: (inout MutableRawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var elements = words.mutableSpan
        var bytes = unsafe elements.mutableBytes
        return try bytes.withSlice(0..<(size * count), body)
    }

    /// Gives `body` the vectors to read.
    func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        unsafe words.span.withUnsafeBytes { bytes in unsafe body(bytes) }
    }
}
