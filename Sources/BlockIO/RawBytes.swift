// SPDX-License-Identifier: Apache-2.0
//
// The bridge between arrays, spans and memory, so that the layers above need no unsafe code for it.

extension MutableRawSpan {
    /// Gives `body` the bytes `range` of this span.
    @inline(__always)
    public mutating func withSlice<Result, Failure: Error>(
        _ range: Range<Int>, _ body: (inout MutableRawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var slice = _mutatingExtracting(range)
        return try body(&slice)
    }

    /// Sets every byte to zero.
    public mutating func clear() {
        unsafe withUnsafeMutableBytes { bytes in _ = unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0) }
    }

    /// Copies `source` to the start of this span, which is at least as long.
    public mutating func copy(from source: RawSpan) {
        precondition(source.byteCount <= byteCount)
        unsafe withUnsafeMutableBytes { target in
            unsafe source.withUnsafeBytes { source in unsafe target.copyMemory(from: source) }
        }
    }
}

extension MutableRawSpan {
    /// Adds a number in the sense of ciphers, by XOR, to the bytes at `offset`; both are as they are in memory.
    @inline(__always)
    public mutating func add<Word: FixedWidthInteger & BitwiseCopyable>(_ word: Word, at offset: Int) {
        storeBytes(of: bytes.word(at: offset, as: Word.self) ^ word, toByteOffset: offset, as: Word.self)
    }
}

extension RawSpan {
    /// The number at `offset` bytes as it is in memory.
    @inline(__always)
    public func word<Word: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: Word.Type) -> Word {
        unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: type)
    }

    /// The big-endian number at `offset` bytes.
    @inline(__always)
    public func bigEndian<Word: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: Word.Type) -> Word {
        Word(bigEndian: word(at: offset, as: Word.self))
    }

    /// The byte at `offset`.
    @inlinable
    public func byte(at offset: Int) -> UInt8 { unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self) }

    /// The 64-bit little-endian integer at `offset` bytes.
    @inlinable
    public func littleEndianWord(at offset: Int) -> UInt64 {
        unsafe UInt64(littleEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// The 64-bit big-endian integer at `offset` bytes.
    @inlinable
    public func bigEndianWord(at offset: Int) -> UInt64 {
        unsafe UInt64(bigEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// Are all bytes zeros? Data is told by its first bytes, most often.
    public var isZero: Bool {
        var offset = 0
        if byteCount >= 8, littleEndianWord(at: 0) != 0 { return false }
        while byteCount - offset >= 64 {
            let words = unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: SIMD8<UInt64>.self)
            guard words == .zero else { return false }
            offset += 64
        }
        while byteCount - offset >= 8 {
            guard littleEndianWord(at: offset) == 0 else { return false }
            offset += 8
        }
        while offset < byteCount {
            guard byte(at: offset) == 0 else { return false }
            offset += 1
        }
        return true
    }
}

extension RawSpan {
    /// Whole units from `start` on, the last of which may be shorter, that are all zeros, or that all hold something else.
    ///
    /// - Parameters:
    ///   - start: a multiple of `unit`.
    ///   - kind: whether they are to be zeros; nil: like the first. It says of which kind they are when there is one.
    /// - Returns: where they end.
    package func endOfUnits(from start: Int, unit: Int, areZero kind: inout Bool?) -> Int {
        var position = start
        while position < byteCount {
            let end = min(position + unit, byteCount)
            let isZero = extracting(position..<end).isZero
            guard kind ?? isZero == isZero else { break }
            kind = isZero
            position = end
        }
        return position
    }
}

extension [UInt8] {
    /// Gives `body` the array's memory to change.
    public mutating func withMutableBytes<Result, Failure: Error>(
        _ body: (inout MutableRawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var elements = mutableSpan
        var bytes = unsafe elements.mutableBytes
        return try body(&bytes)
    }

    /// Gives `body` the array's memory to read.
    public func withBytes<Result, Failure: Error>(
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let elements = span
        return try body(unsafe elements.bytes)
    }

    /// The bytes of a span.
    public init(copying source: RawSpan) {
        self = unsafe source.withUnsafeBytes { bytes in unsafe Array(bytes) }
    }
}

extension ArraySlice<UInt8> {
    /// Gives `body` the slice's memory to read.
    public func withBytes<Result, Failure: Error>(
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let elements = span
        return try body(unsafe elements.bytes)
    }
}

extension BlockDevice {
    /// Reads `count` bytes into an array; for metadata, whose size has been checked.
    public func read(count: Int, at offset: UInt64, _ mode: ReadMode = .mayBlock) throws(BlockError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        try bytes.withMutableBytes { (span) throws(BlockError) in try read(into: &span, at: offset, mode) }
        return bytes
    }
}
