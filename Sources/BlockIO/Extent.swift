// SPDX-License-Identifier: Apache-2.0

/// A run of bytes of one kind.
public struct Extent: Equatable, Sendable {
    /// What a device knows of its bytes without reading them.
    public enum Kind: Equatable, Sendable {
        /// Stored bytes; decrypted on the way when the image is encrypted.
        case data
        /// Stored in compressed form, which no image format encrypts.
        case compressed
        /// Known to read as zeros.
        case zero
        /// Nothing is stored here; reads as zeros.
        case unallocated
    }

    /// In bytes.
    public let offset: UInt64
    /// In bytes; never 0.
    public let length: UInt64
    /// What all of these bytes are.
    public let kind: Kind

    /// `length` is more than 0.
    public init(offset: UInt64, length: UInt64, kind: Kind) {
        self.offset = offset
        self.length = length
        self.kind = kind
    }
}
