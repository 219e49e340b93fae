// SPDX-License-Identifier: Apache-2.0

/// A run of bytes of one kind.
public struct Extent: Equatable, Sendable {
    /// What a device knows of its bytes without reading them.
    public enum Kind: Equatable, Sendable {
        /// Stored bytes; decrypted on the way when the image is encrypted.
        case data
        /// Stored in compressed form, which no image format encrypts.
        case compressed
        /// Known to read as zeros, with or without space of its own.
        case zero
        /// Stored bytes that are known to read as zeros.
        case storedZeros
        /// Nothing is stored here; reads as zeros.
        case unallocated
    }

    /// In bytes.
    public let offset: UInt64
    /// In bytes; never 0.
    public let length: UInt64
    /// What all of these bytes are.
    public let kind: Kind
    /// Which layer of a chain says what they are: 1 for the device itself, 2 for the layer below, and so on; 0 when none
    /// of them says anything.
    public let depth: UInt32

    /// `length` is more than 0. Without `depth`, what is unallocated is so in every layer, and the rest in this device.
    public init(offset: UInt64, length: UInt64, kind: Kind, depth: UInt32? = nil) {
        self.offset = offset
        self.length = length
        self.kind = kind
        self.depth = depth ?? (kind == .unallocated ? 0 : 1)
    }

    /// The same of a device above, where it starts at another offset.
    public func moved(to offset: UInt64) -> Extent {
        Extent(offset: offset, length: length, kind: kind, depth: depth)
    }
}
