// SPDX-License-Identifier: Apache-2.0

/// Bytes that can be read at any offset: a file, an image in a file, the decrypted view of an image.
///
/// Layers are devices over devices. A layer answers for its own bytes only; it never looks past the device below it.
/// Calls may block, and any number of them may run at the same time on any threads.
public protocol BlockDevice: AnyObject, Sendable {
    /// The length in bytes; constant for the life of the device.
    var size: UInt64 { get }

    /// Offsets and lengths of `read` must be multiples of this many bytes; 1 when any request is accepted.
    /// A power of two. ``AlignedDevice`` lifts the restriction.
    var alignment: Int { get }

    /// Fills all of `buffer` with the bytes at `offset`.
    ///
    /// The caller keeps `offset` + the length of `buffer` within `size` and both multiples of `alignment`; a device
    /// checks this again and throws ``BlockError/Code/outOfRange``.
    /// - Throws: ``BlockError``. After an error the contents of `buffer` are unspecified and must not be used. With
    ///   ``ReadMode/cachedOnly`` the error may be ``BlockError/wouldBlock``; the same call with
    ///   ``ReadMode/mayBlock`` then gives the real answer.
    func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError)

    /// What the bytes from `offset` on are, and how far that holds.
    ///
    /// - Parameters:
    ///   - offset: in bytes, less than `size`.
    ///   - limit: the answer covers at most this many bytes; more than 0.
    /// - Returns: an extent that starts at `offset` and is not empty. The next one may be of the same kind.
    func extent(at offset: UInt64, limit: UInt64) throws(BlockError) -> Extent
}

/// May a read wait?
public enum ReadMode: Sendable {
    /// Wait for the disk, decompress, whatever it takes.
    case mayBlock
    /// Throw ``BlockError/wouldBlock`` instead of waiting or of working for long; nothing has changed then.
    case cachedOnly
}

extension BlockDevice {
    /// Throws unless `count` bytes at `offset` lie within the device and are aligned as it wants them.
    public func checkBounds(_ count: Int, at offset: UInt64, layer: String) throws(BlockError) {
        let (end, overflow) = offset.addingReportingOverflow(UInt64(count))
        let mask = UInt64(alignment) - 1
        guard !overflow, end <= size, (offset | UInt64(count)) & mask == 0 else {
            throw .outOfRange("\(layer): \(count) bytes at \(offset) do not fit a device of \(size) bytes")
        }
    }
}
