// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// Copies a disk to another one that is new, and remembers what it has read, so that the copy can be compared with it.
public final class DiskCopy: Sendable {
    /// How a disk is copied.
    public struct Options: Sendable {
        /// Bytes of the new disk that nobody has written read as zeros; otherwise zeros are written.
        public var isTargetZero = true
        /// Zeros are left out in runs of so many bytes, at multiples of it: what the new image allocates at once.
        public var zeroUnit = 4096
        /// What cannot be read is zeros in the copy, and told of, rather than the end.
        public var toleratesUnreadable = false

        /// A new disk that reads as zeros.
        public init() {}
    }

    /// Why it has ended.
    public enum Failure: Error, Equatable, Sendable {
        /// The disk that is copied cannot be read; at a byte of it.
        case reading(UInt64, BlockError)
        /// The new disk cannot be written to.
        case writing(UInt64, BlockError)
    }

    /// What cannot be read is found out in steps of so many bytes.
    private static let smallestUnit: UInt64 = 512

    private let source: any BlockDevice
    private let options: Options
    private let digests: BlockDigests
    private let unreadable = Locked<[ByteRange]>([])

    /// - Parameter source: takes requests of any offset and length.
    public init(from source: any BlockDevice, _ options: Options = Options()) {
        self.source = source
        self.options = options
        digests = BlockDigests(DiskBlocks(diskSize: source.size))
    }

    /// What could not be read, in order, joined where it meets; zeros in the copy.
    public var unreadableRanges: [ByteRange] {
        unreadable.withLock { ranges in
            var joined: [ByteRange] = []
            for range in ranges.sorted(by: { $0.offset < $1.offset }) {
                if let last = joined.last, last.end == range.offset,
                    let sum = ByteRange(offset: last.offset, length: last.length + range.length)
                {
                    joined[joined.count - 1] = sum
                } else {
                    joined.append(range)
                }
            }
            return joined
        }
    }

    /// Of what was read, with zeros in place of what could not be.
    public var digest: DiskDigest { digests.total }

    /// Copies everything, once, and has it on disk when it returns.
    ///
    /// - Parameters:
    ///   - target: takes requests of any offset and length, and is as long as the disk.
    ///   - progress: of a disk of this size.
    public func run(to target: any BlockDevice, progress: CopyProgress) throws(Failure) {
        precondition(source.size == target.size && progress.size == source.size)
        let writer = Writer(target: target, options: options, progress: progress)
        let blocks = digests.blocks
        let queue = BlockQueue(source, blocks, wantsZeros: !options.isTargetZero) { progress.add($0, .zeros) }
        try BlockWorkers(queue: queue, blocks: blocks, depth: source.depth).run {
            [self] (task, bytes) throws(Failure) in
            switch task {
            case .read(let index): try copy(index, &bytes, writer)
            case .zeros(let index): try writer.writeZeros(blocks.range(index))
            }
        }
        do { try target.flush() } catch { throw .writing(0, error) }
    }

    private func copy(_ index: Int, _ bytes: inout [UInt8], _ writer: Writer) throws(Failure) {
        let range = digests.blocks.range(index)
        try bytes.withMutableBytes { (all) throws(Failure) in
            try all.withSlice(0..<Int(range.length)) { (block) throws(Failure) in
                let lost = try read(range, into: &block)
                if !lost.isEmpty { unreadable.withLock { $0 += lost } }
                digests.add(index, block.bytes)
                try writer.write(&block, at: range.offset, lost: lost)
            }
        }
    }

    // MARK: Reading

    /// - Returns: what cannot be read, in order.
    private func read(_ range: ByteRange, into block: inout MutableRawSpan) throws(Failure) -> [ByteRange] {
        var lost: [ByteRange] = []
        var position = range.offset
        while position < range.end {
            let extent = try? source.extent(at: position, limit: range.end - position)
            let end = extent.map { $0.offset + $0.length } ?? range.end
            let isZero = extent?.isZero ?? false
            let place = Int(position - range.offset)..<Int(end - range.offset)
            try block.withSlice(place) { (part) throws(Failure) in
                if isZero { part.clear() } else { try readData(into: &part, at: position, &lost) }
            }
            position = end
        }
        return lost
    }

    private func readData(
        into part: inout MutableRawSpan, at offset: UInt64, _ lost: inout [ByteRange]
    ) throws(Failure) {
        do { try source.read(into: &part, at: offset, .mayBlock) } catch {
            guard options.toleratesUnreadable, error.isOfPlace else { throw .reading(offset, error) }
            try readAround(into: &part, at: offset, &lost)
        }
    }

    /// Reads what can be read of bytes that cannot be read at once: halves of them, and halves of these.
    private func readAround(
        into part: inout MutableRawSpan, at offset: UInt64, _ lost: inout [ByteRange]
    ) throws(Failure) {
        let count = UInt64(part.byteCount)
        guard count > Self.smallestUnit - offset % Self.smallestUnit else {
            part.clear()
            if let range = ByteRange(offset: offset, length: count) { lost.append(range) }
            return
        }
        // At a multiple of the unit, near the middle.
        let middle = (offset + count / 2).roundedUp(to: Self.smallestUnit)
        let split = min(middle, (offset + count - 1) / Self.smallestUnit * Self.smallestUnit)
        try part.withSlice(0..<Int(split - offset)) { (half) throws(Failure) in
            try readData(into: &half, at: offset, &lost)
        }
        try part.withSlice(Int(split - offset)..<Int(count)) { (half) throws(Failure) in
            try readData(into: &half, at: split, &lost)
        }
    }
}

extension BlockError {
    /// Is the reason at a place of the disk, so that other places may be read all the same?
    fileprivate var isOfPlace: Bool {
        switch code {
        case .inputOutput, .damaged: true
        case .wouldBlock, .outOfRange, .readOnly, .noSpace, .notSupported, .timedOut, .disconnected, .changed: false
        }
    }
}

extension DiskCopy {
    /// Reads a copy, opened anew, and compares it with what was read of the disk.
    ///
    /// - Parameter progress: of a disk of this size.
    /// - Returns: the digest of the copy, and where it first differs.
    public func verify(
        _ copy: any BlockDevice, progress: CopyProgress
    ) throws(Failure) -> (digest: DiskDigest, difference: ByteRange?) {
        let blocks = digests.blocks
        let found = BlockDigests(blocks)
        let queue = BlockQueue(copy, blocks, wantsZeros: false) { progress.add($0, .zeros) }
        try BlockWorkers(queue: queue, blocks: blocks, depth: copy.depth).run { (task, bytes) throws(Failure) in
            guard case .read(let index) = task else { return }
            let range = blocks.range(index)
            try bytes.withMutableBytes { (all) throws(Failure) in
                try all.withSlice(0..<Int(range.length)) { (block) throws(Failure) in
                    do throws(BlockError) { try copy.read(into: &block, at: range.offset, .mayBlock) } catch {
                        throw Failure.reading(range.offset, error)
                    }
                    found.add(index, block.bytes)
                    progress.add(range, block.bytes.isZero ? .zeros : .data)
                }
            }
        }
        let block = digests.firstDifference(from: found)
        return (found.total, block.map { difference(in: blocks.range($0), copy) })
    }

    /// The bytes that differ first, as far as another look at both finds them; else all of the block.
    private func difference(in range: ByteRange, _ copy: any BlockDevice) -> ByteRange {
        let count = Int(range.length)
        guard let old = try? source.read(count: count, at: range.offset),
            let new = try? copy.read(count: count, at: range.offset),
            let first = zip(old, new).enumerated().first(where: { $1.0 != $1.1 })?.offset
        else { return range }
        var end = first
        while end < count, old[end] != new[end] { end += 1 }
        return ByteRange(offset: range.offset + UInt64(first), length: UInt64(end - first)) ?? range
    }
}
