// SPDX-License-Identifier: Apache-2.0

public import BlockIO

/// A partition of a disk that can be read.
public struct Partition: Sendable, Equatable {
    /// As Linux numbers it: 1 to 4 for the entries of an MBR, from 5 for its logical partitions, the entry for GPT.
    public let number: Int
    /// In bytes, within the disk and not empty. Both ends are multiples of the table's sector size, which may be less than
    /// the alignment of the disk: put an ``AlignedDevice`` below a ``WindowDevice`` of it.
    public let range: ByteRange
    /// "0x83" for MBR, the GUID in its canonical form for GPT.
    public let type: String
    /// What the type is called, in words; nil when it is not well known.
    public let typeName: String?
    /// The name that GPT has for it: printable, 36 characters at most; empty for MBR.
    public let name: String
}
