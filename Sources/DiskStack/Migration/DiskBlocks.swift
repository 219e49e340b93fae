// SPDX-License-Identifier: Apache-2.0

import BlockIO

/// A disk in blocks, each of which is copied, hashed and told of as a whole.
///
/// A block has 1 MiB on disks up to 512 GiB, and doubles with the disk from there on: there are at most 2^19 of them.
public struct DiskBlocks: Equatable, Sendable {
    private static let smallestSize: UInt64 = 1 << 20
    private static let maximumCount: UInt64 = 1 << 19

    /// Of the disk, in bytes.
    public let diskSize: UInt64
    /// Of a block, in bytes; the last one may be shorter.
    public let blockSize: UInt64

    /// The blocks of a disk of so many bytes.
    public init(diskSize: UInt64) {
        self.diskSize = diskSize
        var size = Self.smallestSize
        while diskSize.units(of: size) > Self.maximumCount { size *= 2 }
        blockSize = size
    }

    /// How many there are.
    public var count: Int { Int(diskSize.units(of: blockSize)) }

    /// The bytes of a block; `index` is less than `count`.
    func range(_ index: Int) -> ByteRange {
        let offset = UInt64(index) * blockSize
        // Within the disk.
        return ByteRange(offset: offset, length: min(blockSize, diskSize - offset)) ?? .empty
    }
}
