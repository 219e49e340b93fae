// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// Gives the blocks of a disk to those who work on them, in order; what is known to be zeros takes no work, however much
/// there is of it.
final class BlockQueue: Sendable {
    /// What is to be done with a block.
    enum Task {
        /// Some of it may be data.
        case read(Int)
        /// All of it is zeros.
        case zeros(Int)
    }

    private let device: any BlockDevice
    private let blocks: DiskBlocks
    private let wantsZeros: Bool
    private let skipped: @Sendable (ByteRange) -> Void
    private let state = Locked(State())

    private struct State {
        var next = 0
        /// Known to be zeros up to this byte of the disk.
        var zeroEnd: UInt64 = 0
        var isStopped = false
    }

    /// - Parameters:
    ///   - wantsZeros: blocks of zeros are given out, too.
    ///   - skipped: told of zeros that are not given out, in whole blocks; on any thread, without a lock of others.
    init(
        _ device: any BlockDevice, _ blocks: DiskBlocks, wantsZeros: Bool,
        skipped: @escaping @Sendable (ByteRange) -> Void
    ) {
        self.device = device
        self.blocks = blocks
        self.wantsZeros = wantsZeros
        self.skipped = skipped
    }

    /// The next block; nil at the end, or after ``stop()``.
    func next() -> Task? {
        state.withLock { state in
            while !state.isStopped, state.next < blocks.count {
                let index = state.next
                let range = blocks.range(index)
                if state.zeroEnd < range.end { lookForZeros(at: max(range.offset, state.zeroEnd), &state) }
                guard state.zeroEnd >= range.end else {
                    state.next += 1
                    // What is zeros at the start of a block is found again by who reads it.
                    return .read(index)
                }
                if wantsZeros {
                    state.next += 1
                    return .zeros(index)
                }
                let end = state.zeroEnd == blocks.diskSize ? blocks.count : Int(state.zeroEnd / blocks.blockSize)
                state.next = end
                let last = blocks.range(end - 1)
                if let run = ByteRange(offset: range.offset, length: last.end - range.offset) { skipped(run) }
            }
            return nil
        }
    }

    /// Moves the end of what is known to be zeros on, if there are more.
    private func lookForZeros(at offset: UInt64, _ state: inout State) {
        state.zeroEnd = device.endOfRun(at: offset, areZeros: true)
    }

    /// Gives out no more.
    func stop() { state.withLock { $0.isStopped = true } }
}

extension BlockDevice {
    /// Where a run of bytes ends that are all known to read as zeros, or are all not known to; the same byte when its first one is
    /// otherwise. What cannot be told is not known: whoever reads it is told why.
    func endOfRun(at offset: UInt64, areZeros: Bool) -> UInt64 {
        var position = offset
        while position < size {
            let extent = try? extent(at: position, limit: size - position)
            guard (extent?.isZero ?? false) == areZeros else { break }
            // Steps of what cannot be told are small enough not to hide what can.
            position = extent.map { position + $0.length } ?? min(size, (position / 65536 + 1) * 65536)
        }
        return position
    }
}

extension Extent {
    /// Does it read as zeros, as far as the device knows?
    var isZero: Bool {
        switch kind {
        case .data, .compressed: false
        case .zero, .storedZeros, .unallocated: true
        }
    }
}
