// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A device of which no more than so many bytes are read; a read beyond that fails, and costs nothing.
final class BudgetedDevice: ReadOnlyDevice {
    private let below: AlignedDevice
    private let bytesLeft: Locked<Int>

    /// - Parameter byteBudget: how many bytes may be read.
    init(_ below: any BlockDevice, byteBudget: Int) {
        self.below = AlignedDevice(below)
        bytesLeft = Locked(byteBudget)
    }

    var size: UInt64 { below.size }

    var alignment: Int { below.alignment }

    var depth: Int { below.depth }

    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        let count = buffer.byteCount
        let isAffordable = bytesLeft.withLock { left in
            guard count <= left else { return false }
            left -= count
            return true
        }
        guard isAffordable else { throw .inputOutput("content check: enough has been read") }
        try below.read(into: &buffer, at: offset, mode)
    }

    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        try below.extent(at: offset, limit: limit, mode)
    }

    func prefetch(_ range: ByteRange, _ budget: Budget) { below.prefetch(range, budget) }
}
