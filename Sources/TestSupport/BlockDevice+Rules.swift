// SPDX-License-Identifier: Apache-2.0

public import BlockIO

extension BlockDevice {
    /// Checks rules that hold for every device, also one over a damaged image: a breach is a trap. For fuzz targets; the device
    /// takes requests of any alignment.
    ///
    /// - Parameter place: a read of so many bytes at an offset beside those at the start, in the middle and at the end.
    public func checkRules(_ place: (offset: UInt64, length: UInt64)) {
        checkExtents()
        for (offset, length) in [(0, 9000), (511, 2), (1024, 512), place, (size / 2, 1025), (size &- 513, 513)]
        where offset < size {
            checkRead(at: offset, Int(min(length, size - offset)))
        }
    }

    /// Every extent begins where it was asked for, is not empty and ends within the limit; what it says of zeros is true.
    private func checkExtents() {
        var offset: UInt64 = 0
        for limit: UInt64 in [1, 511, 700, 9000] + Array(repeating: 1 << 40, count: 60) where offset < size {
            guard let extent = try? extent(at: offset, limit: limit, .mayBlock) else { return }
            precondition(extent.offset == offset && extent.length > 0 && extent.length <= limit)
            precondition(extent.length <= size - offset)
            if extent.kind == .unallocated || extent.kind == .zero {
                let count = Int(min(extent.length, 1024))
                precondition(bytes(at: offset, count, .mayBlock, fill: 0xFF) == [UInt8](repeating: 0, count: count))
            }
            offset += extent.length
        }
    }

    /// A read that succeeds fills every byte and gives the same again; one that must not wait gives the same or says so.
    private func checkRead(at offset: UInt64, _ count: Int) {
        let first = bytes(at: offset, count, .mayBlock, fill: 0x00)
        precondition(first == bytes(at: offset, count, .mayBlock, fill: 0xFF))
        if let first, let cached = bytes(at: offset, count, .cachedOnly, fill: 0xAA) { precondition(cached == first) }
    }

    private func bytes(at offset: UInt64, _ count: Int, _ mode: ReadMode, fill: UInt8) -> [UInt8]? {
        var bytes = [UInt8](repeating: fill, count: count)
        do throws(BlockError) {
            try bytes.withMutableBytes { (span) throws(BlockError) in try read(into: &span, at: offset, mode) }
            return bytes
        } catch {
            precondition(!mode.mayWait || error != .wouldBlock)
            return nil
        }
    }
}
