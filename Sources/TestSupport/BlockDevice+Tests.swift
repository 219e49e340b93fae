// SPDX-License-Identifier: Apache-2.0

public import BlockIO

extension BlockDevice {
    /// What the device says of all of its bytes, an answer after the other.
    public func extents() throws(BlockError) -> [Extent] {
        var extents: [Extent] = []
        var offset: UInt64 = 0
        while offset < size {
            let extent = try extent(at: offset, limit: .max)
            precondition(extent.length > 0)
            extents.append(extent)
            offset += extent.length
        }
        return extents
    }
}

extension BlockDevice {
    /// Writes a copy of `bytes`.
    public func write(_ bytes: [UInt8], at offset: UInt64, _ options: WriteOptions = []) throws(BlockError) {
        var copy = bytes
        try copy.withMutableBytes { (bytes) throws(BlockError) in try write(&bytes, at: offset, options) }
    }
}
