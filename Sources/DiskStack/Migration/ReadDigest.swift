// SPDX-License-Identifier: Apache-2.0

package import BlockIO

/// The ``DiskDigest`` of a disk that others read, in any order and in pieces of any length; any thread may tell of a read.
///
/// A block is hashed when all of it has come, from the bytes that have; until then they are copied. There is memory for some
/// blocks on their way: the one that began first makes room. A block that was given up so, or of which something was never read
/// because it is known to be zeros, is read once more at the end.
package final class ReadDigest: Sendable {
    /// Of blocks that have come in part, in bytes.
    private static let memory: UInt64 = 32 << 20

    private enum Block {
        case unknown, hashed
        /// There was no memory: it is not collected again.
        case givenUp
    }

    /// A block of which something has come.
    private struct Part {
        let index: Int
        var bytes: [UInt8]
        var come: ByteSet
    }

    private struct State {
        var blocks: [Block]
        /// The one that began first comes first.
        var parts: [Part] = []
        /// Memory of parts that are no more.
        var free: [[UInt8]] = []
    }

    private let device: any BlockDevice
    private let digests: BlockDigests
    private let partLimit: Int
    private let state: Locked<State>

    /// - Parameter device: is only read, and takes requests of any offset and length.
    package init(of device: any BlockDevice) {
        self.device = device
        digests = BlockDigests(DiskBlocks(diskSize: device.size))
        partLimit = Int(Self.memory / digests.blocks.blockSize)
        state = Locked(State(blocks: Array(repeating: .unknown, count: digests.blocks.count)))
    }

    /// How many bytes are hashed at once.
    package var blockSize: UInt64 { digests.blocks.blockSize }

    /// These bytes have been read of the disk; they are within it.
    package func read(_ bytes: RawSpan, at offset: UInt64) {
        var position = 0
        while position < bytes.byteCount {
            let place = offset + UInt64(position)
            let index = Int(place / blockSize)
            let block = digests.blocks.range(index)
            let count = min(bytes.byteCount - position, Int(block.end - place))
            read(bytes.extracting(position..<position + count), at: place - block.offset, of: index, block.length)
            position += count
        }
    }

    private func read(_ bytes: RawSpan, at start: UInt64, of index: Int, _ length: UInt64) {
        if UInt64(bytes.byteCount) == length {
            let isNew = state.withLock { state in
                defer { state.blocks[index] = .hashed }
                Self.drop(index, &state)
                return state.blocks[index] != .hashed
            }
            if isNew { digests.add(index, bytes) }
            return
        }
        let whole: [UInt8]? = state.withLock { state in
            guard let place = place(of: index, length, &state) else { return nil }
            let end = start + UInt64(bytes.byteCount)
            state.parts[place].bytes.withMutableBytes { all in
                all.withSlice(Int(start)..<Int(end)) { $0.copy(from: bytes) }
            }
            state.parts[place].come.insert(start..<end)
            guard state.parts[place].come.isComplete else { return nil }
            state.blocks[index] = .hashed
            return state.parts.remove(at: place).bytes
        }
        guard let whole else { return }
        whole.withBytes { digests.add(index, $0.extracting(0..<Int(length))) }
        state.withLock { $0.free.append(whole) }
    }

    /// Where a block is collected; nil when it is not.
    private func place(of index: Int, _ length: UInt64, _ state: inout State) -> Int? {
        if let place = state.parts.firstIndex(where: { $0.index == index }) { return place }
        guard state.blocks[index] == .unknown else { return nil }
        guard partLimit > 0 else {
            state.blocks[index] = .givenUp
            return nil
        }
        if state.parts.count == partLimit {
            let oldest = state.parts[0].index
            Self.drop(oldest, &state)
            state.blocks[oldest] = .givenUp
        }
        let bytes = state.free.popLast() ?? [UInt8](repeating: 0, count: Int(min(blockSize, device.size)))
        state.parts.append(Part(index: index, bytes: bytes, come: ByteSet(size: length)))
        return state.parts.count - 1
    }

    private static func drop(_ index: Int, _ state: inout State) {
        guard let place = state.parts.firstIndex(where: { $0.index == index }) else { return }
        state.free.append(state.parts.remove(at: place).bytes)
    }

    /// The digest, when nobody reads any more and all that is not known to be zeros has been read: what is missing is read now.
    package func total() throws(BlockError) -> DiskDigest {
        let known = state.withLock { state in
            state.parts = []
            state.free = []
            return state.blocks.map { $0 == .hashed }
        }
        let blocks = digests.blocks
        let queue = BlockQueue(device, blocks, wantsZeros: false) { _ in }
        try BlockWorkers(queue: queue, blocks: blocks, depth: device.depth).run {
            [device, digests] (task, bytes) throws(BlockError) in
            guard case .read(let index) = task, !known[index] else { return }
            let range = blocks.range(index)
            try bytes.withMutableBytes { (all) throws(BlockError) in
                try all.withSlice(0..<Int(range.length)) { (block) throws(BlockError) in
                    try device.read(into: &block, at: range.offset, .mayBlock)
                    digests.add(index, block.bytes)
                }
            }
        }
        return digests.total
    }
}
