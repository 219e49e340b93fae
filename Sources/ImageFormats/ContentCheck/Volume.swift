// SPDX-License-Identifier: Apache-2.0

/// A part of the disk that may hold a file system: a partition, or the whole disk.
struct Volume: Equatable {
    /// Where it starts on the disk, in bytes.
    let offset: UInt64
    /// In bytes; as its partition table says, which may be more than the disk has.
    let length: UInt64
    /// The number that Linux gives the partition; nil for the whole disk.
    let number: Int?
}
