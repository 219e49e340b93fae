// SPDX-License-Identifier: Apache-2.0

/// The bytes of an image, open.
public struct OpenSource: Sendable {
    /// An image format may allocate in it, if it is writable.
    public let device: any GrowableDevice
    /// The same for all names of one source.
    public let identity: SourceIdentity
    /// Where names in the image start.
    public let place: SourcePlace
    /// For people.
    public let name: String
    /// Why nobody is kept from writing to it, though that was wanted: a sentence for a warning.
    public let missingLocks: String?
}
