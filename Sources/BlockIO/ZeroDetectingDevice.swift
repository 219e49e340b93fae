// SPDX-License-Identifier: Apache-2.0

/// Finds zeros where a device has only data: whole blocks of 4 KiB that read as zeros, whatever is stored for them.
///
/// All but ``extent(at:limit:_:)`` is passed on. A block is judged by all of its bytes, so that the answer for a byte does
/// not depend on what was asked.
public final class ZeroDetectingDevice: BlockDevice {
    /// What is zeros, or not, as a whole; in bytes, at multiples of this offset. The last one of a disk may be shorter.
    public static let blockSize = 4096
    /// One answer reads at most this many bytes, in whole blocks.
    private static let maximumByteCount = 1 << 20
    /// What is read first: an answer that ends soon should not read much. Doubled for each further read.
    private static let firstByteCount = 16 << 10
    private static let largestPiece = 256 << 10

    /// Any offset and length is accepted.
    public let alignment = 1
    private let below: any BlockDevice

    /// - Parameter below: of alignment 1; ``AlignedDevice`` lifts that of others.
    public init(_ below: any BlockDevice) {
        precondition(below.alignment == 1)
        self.below = below
    }

    /// Of the device below.
    public var size: UInt64 { below.size }

    /// Of the device below.
    public var depth: Int { below.depth }

    /// As the device below.
    public var isWritable: Bool { below.isWritable }

    /// One read of the device below.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try below.read(into: &buffer, at: offset, mode)
    }

    /// As the device below has it; what is data or compressed there is read and split into zeros and other bytes.
    ///
    /// Bytes that cannot be read are data: the client that reads them is told why it cannot. Where there are bytes to be
    /// read, an answer that may not wait is none, even if they are in memory: they are many.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        let known = try below.extent(at: offset, limit: limit, mode)
        guard known.kind == .data || known.kind == .compressed else { return known }
        guard mode.mayWait else { throw .wouldBlock }
        let blockSize = UInt64(Self.blockSize)
        let start = offset - offset % blockSize
        // Less than the size of the device, whose last block may be shorter.
        let last = offset + known.length - 1
        let wanted = min(size - start, last - last % blockSize + blockSize - start)
        let run = try zeroRun(from: start, count: Int(min(wanted, UInt64(Self.maximumByteCount))), mode)
        return Extent(
            offset: offset, length: min(known.length, UInt64(run.length) - (offset - start)),
            kind: run.isZero ? .storedZeros : known.kind, depth: known.depth)
    }

    /// Is the block at `start` zeros, and for how many of `count` bytes is that true or false for all blocks?
    private func zeroRun(
        from start: UInt64, count: Int, _ mode: ReadMode
    ) throws(BlockError) -> (isZero: Bool, length: Int) {
        var isZero: Bool?
        var length = 0
        var pieceSize = Self.firstByteCount
        while length < count {
            let pieceCount = min(pieceSize, count - length)
            let bytes: [UInt8]
            do {
                try mode.look()
                bytes = try below.read(count: pieceCount, at: start + UInt64(length), mode)
            } catch {
                if length > 0 { break }
                if error.code == .wouldBlock { throw error }
                return (false, pieceCount)
            }
            let same = bytes.withBytes { $0.endOfUnits(from: 0, unit: Self.blockSize, areZero: &isZero) }
            length += same
            if same < pieceCount { break }
            pieceSize = min(2 * pieceSize, Self.largestPiece)
        }
        return (isZero ?? false, length)
    }

    /// Of the device below.
    public func prefetch(_ range: ByteRange, _ budget: Budget) { below.prefetch(range, budget) }

    /// One write to the device below.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        try below.write(&bytes, at: offset, options)
    }

    /// In the device below.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) { try below.zero(range, options) }

    /// In the device below.
    public func discard(_ range: ByteRange) throws(BlockError) { try below.discard(range) }

    /// Of the device below.
    public func flush() throws(BlockError) { try below.flush() }
}
