// SPDX-License-Identifier: Apache-2.0

/// Devices that take turns: the first chunk is the first one's, the next chunk the next one's, as in a striped volume.
public final class StripedDevice: BlockDevice {
    /// The sum of the stripes, in bytes.
    public let size: UInt64
    /// Any offset and length is accepted.
    public let alignment = 1
    /// Of all stripes together: a long request is one of each.
    public let depth: Int
    /// Are all stripes?
    public let isWritable: Bool
    private let stripes: [any BlockDevice]
    private let chunk: UInt64
    /// One chunk of each stripe, in bytes.
    private let row: UInt64

    /// - Parameters:
    ///   - stripes: of the same size, which is a multiple of `chunk`.
    ///   - chunk: in bytes.
    /// - Returns: nil when that is not so, or when the sum of the sizes does not fit 64 bits.
    public init?(_ stripes: [any BlockDevice], chunk: UInt64) {
        guard let first = stripes.first, chunk > 0, first.size % chunk == 0,
            stripes.allSatisfy({ $0.size == first.size })
        else { return nil }
        let (size, isTooLarge) = first.size.multipliedReportingOverflow(by: UInt64(stripes.count))
        let (row, isTooWide) = chunk.multipliedReportingOverflow(by: UInt64(stripes.count))
        guard !isTooLarge, !isTooWide else { return nil }
        self.stripes = stripes.map(AlignedDevice.lifting)
        self.depth = self.stripes.map(\.depth).max() ?? 1
        self.isWritable = stripes.allSatisfy(\.isWritable)
        self.chunk = chunk
        self.size = size
        self.row = row
    }

    /// Where a byte of the volume lies.
    private func place(_ offset: UInt64) -> (stripe: Int, offset: UInt64, restOfChunk: UInt64) {
        let inRow = offset % row
        let inChunk = inRow % chunk
        return (Int(inRow / chunk), offset / row * chunk + inChunk, chunk - inChunk)
    }

    /// One read for each chunk that the range touches.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "stripes")
        var done = 0
        while done < buffer.byteCount {
            try mode.look()
            let (stripe, inside, rest) = place(offset + UInt64(done))
            let count = Int(min(rest, UInt64(buffer.byteCount - done)))
            try buffer.withSlice(done..<(done + count)) { (slice) throws(BlockError) in
                try stripes[stripe].read(into: &slice, at: inside, mode)
            }
            done += count
        }
    }

    /// What the stripes say; one answer for many chunks when all of them say the same.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        guard offset < size, limit > 0 else { throw .outOfRange("stripes: there is no byte \(offset)") }
        let (stripe, inside, rest) = place(offset)
        let most = min(limit, size - offset)
        // As many rows as the answer can touch, so that no stripe is asked for more.
        let (rows, isMore) = (most / row + 2).multipliedReportingOverflow(by: chunk)
        func run(_ number: Int, from start: UInt64) throws(BlockError) -> Extent {
            let left = stripes[number].size - start
            return try stripes[number].extent(at: start, limit: isMore ? left : min(rows, left), mode)
        }
        let first = try run(stripe, from: inside)
        guard first.length >= rest, most > rest else {
            return Extent(offset: offset, length: min(first.length, rest, most), kind: first.kind, depth: first.depth)
        }
        var end = min(offset + most, position(stripe, inside + first.length))
        let rowStart = inside - inside % chunk
        for other in stripes.indices where other != stripe {
            let start = other > stripe ? rowStart : rowStart + chunk
            let place = position(other, start)
            guard place < end else { continue }
            let next = try run(other, from: start)
            let isSame = next.kind == first.kind && next.depth == first.depth
            end = min(end, isSame ? position(other, start + next.length) : place)
        }
        return Extent(offset: offset, length: end - offset, kind: first.kind, depth: first.depth)
    }

    /// Where in the volume a byte of a stripe is; the end of the volume, or a place behind it, for the end of a stripe.
    private func position(_ stripe: Int, _ offset: UInt64) -> UInt64 {
        // Behind the last row this could leave 64 bits, and nothing lies there.
        guard offset / chunk < size / row else { return size }
        return offset / chunk * row + UInt64(stripe) * chunk + offset % chunk
    }

    /// The part of each stripe that the range touches.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {
        guard range.end <= size else { return }
        for (stripe, part) in parts(of: range) { stripe.prefetch(part, budget) }
    }

    /// One write for each chunk that the range touches.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(bytes.byteCount, at: offset, layer: "stripes")
        var done = 0
        while done < bytes.byteCount {
            let (stripe, inside, rest) = place(offset + UInt64(done))
            let count = Int(min(rest, UInt64(bytes.byteCount - done)))
            try bytes.withSlice(done..<(done + count)) { (slice) throws(BlockError) in
                try stripes[stripe].write(&slice, at: inside, options)
            }
            done += count
        }
    }

    /// The part of each stripe that the range touches.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "stripes")
        for (stripe, part) in parts(of: range) { try stripe.zero(part, options) }
    }

    /// The part of each stripe that the range touches.
    public func discard(_ range: ByteRange) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "stripes")
        for (stripe, part) in parts(of: range) { try stripe.discard(part) }
    }

    /// All stripes, also when one of them fails.
    public func flush() throws(BlockError) { try flushAll(stripes) }

    /// The stripes that a range within the device touches, and what of each: that lies together.
    private func parts(of range: ByteRange) -> [(stripe: any BlockDevice, part: ByteRange)] {
        guard range.length > 0 else { return [] }
        let firstRow = range.offset / row
        let lastRow = (range.end - 1) / row
        return stripes.enumerated().compactMap { (number, stripe) in
            // Whole chunks but for the first and the last row, where the range may begin or end within this stripe's chunk.
            let start = UInt64(number) * chunk
            let first = min(chunk, max(start, range.offset - firstRow * row) - start)
            let last = min(chunk, max(start, range.end - lastRow * row) - start)
            let from = firstRow * chunk + first
            let to = lastRow * chunk + last
            guard from < to else { return nil }
            return ByteRange(offset: from, length: to - from).map { (stripe, $0) }
        }
    }
}
