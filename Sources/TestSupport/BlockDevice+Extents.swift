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
