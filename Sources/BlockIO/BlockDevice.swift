// SPDX-License-Identifier: Apache-2.0

/// Bytes that can be read, and perhaps written, at any offset: a file, an image in a file, the decrypted view of an image.
///
/// Layers are devices over devices. A layer answers for its own bytes only; it never looks past the device below it.
/// Calls may block, and any number of them may run at the same time on any threads.
public protocol BlockDevice: AnyObject, Sendable {
    /// The length in bytes; constant for the life of the device, unless it is a ``GrowableDevice``.
    var size: UInt64 { get }

    /// Can the bytes be changed? Otherwise `write`, `zero` and `discard` throw ``BlockError/Code/readOnly``.
    var isWritable: Bool { get }

    /// Offsets and lengths of requests must be multiples of this many bytes; 1 when any request is accepted.
    /// A power of two. ``AlignedDevice`` lifts the restriction.
    var alignment: Int { get }

    /// How many requests the device likes to have under way at once: few for a file, many for one that is far away.
    var depth: Int { get }

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
    ///   - mode: when its budget is spent, the answer is shorter.
    /// - Returns: an extent that starts at `offset` and is not empty. The next one may be of the same kind.
    /// - Throws: ``BlockError``; ``BlockError/wouldBlock`` as ``read(into:at:_:)`` does.
    func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent

    /// Starts to bring bytes into memory that will be read soon; a hint, which may do nothing.
    ///
    /// - Parameters:
    ///   - range: within `size`.
    ///   - budget: asked before each look-up of where bytes are, and each call of the system; what is left when it is
    ///     spent is left out.
    func prefetch(_ range: ByteRange, _ budget: Budget)

    /// Replaces the bytes at `offset`. After an error, any part of them may have been written.
    ///
    /// Afterwards `bytes` is unspecified: a layer encrypts in place, as ``read(into:at:_:)`` decrypts in place. The bounds are
    /// those of `read`.
    func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError)

    /// Makes all bytes of a range read as zeros.
    /// - Throws: ``BlockError``; with ``ZeroOptions/fastOnly``, ``BlockError/Code/notSupported`` when nothing is faster
    ///   than a write.
    func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError)

    /// Gives up the contents of a range, as far as that is possible: nobody knows what it reads as later.
    func discard(_ range: ByteRange) throws(BlockError)

    /// Makes all that has been written survive a power failure, before it returns.
    func flush() throws(BlockError)
}

/// How bytes are written.
public struct WriteOptions: OptionSet, Sendable {
    /// The bits.
    public let rawValue: Int

    /// As `OptionSet` wants it.
    public init(rawValue: Int) { self.rawValue = rawValue }

    /// What is written survives a power failure when the call returns: `NBD_CMD_FLAG_FUA`. Nothing is said of other bytes.
    public static let durable = WriteOptions(rawValue: 1)
}

/// How bytes may be made zero.
public struct ZeroOptions: OptionSet, Sendable {
    /// The bits.
    public let rawValue: Int

    /// As `OptionSet` wants it.
    public init(rawValue: Int) { self.rawValue = rawValue }

    /// The space may be given back: a later write may find none.
    public static let mayDiscard = ZeroOptions(rawValue: 1)
    /// Fail rather than write zeros one by one.
    public static let fastOnly = ZeroOptions(rawValue: 2)
    /// The zeros survive a power failure when the call returns.
    public static let durable = ZeroOptions(rawValue: 4)
}

/// A layer that nobody writes to. Only such a layer has the verbs that change something for nothing: one that is writable
/// and forgets ``BlockDevice/flush()`` does not compile.
public protocol ReadOnlyDevice: BlockDevice {}

/// What an image format allocates clusters in: a file.
public protocol GrowableDevice: BlockDevice {
    /// Makes the device longer; the new bytes read as zeros. Other calls may run at the same time.
    ///
    /// - Parameter size: in bytes. When the device is as long as that already, nothing happens.
    /// - Throws: ``BlockError``; ``BlockError/Code/noSpace`` when there is no room.
    func grow(to size: UInt64) throws(BlockError)
}

extension ReadOnlyDevice {
    /// No.
    public var isWritable: Bool { false }

    /// Refuses.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        throw .readOnly
    }

    /// Refuses.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) { throw .readOnly }

    /// Refuses.
    public func discard(_ range: ByteRange) throws(BlockError) { throw .readOnly }

    /// Nothing has been written.
    public func flush() throws(BlockError) {}
}

extension BlockDevice {
    /// What the bytes from `offset` on are, whatever it takes to find out.
    public func extent(at offset: UInt64, limit: UInt64) throws(BlockError) -> Extent {
        try extent(at: offset, limit: limit, .mayBlock)
    }

    /// Prefetches what of `length` bytes at `offset` the device has.
    public func prefetch(_ offset: UInt64, _ length: UInt64, _ budget: Budget) {
        guard offset < size, let range = ByteRange(offset: offset, length: min(length, size - offset)) else { return }
        prefetch(range, budget)
    }

    /// Throws unless a range lies within the device and is aligned as it wants it.
    public func checkBounds(_ range: ByteRange, layer: String) throws(BlockError) {
        guard range.end <= size, (range.offset | range.length) & (UInt64(alignment) - 1) == 0 else {
            throw .outOfRange("\(layer): \(range.length) bytes at \(range.offset) do not fit a device of \(size) bytes")
        }
    }

    /// Throws unless `count` bytes at `offset` lie within the device and are aligned as it wants them.
    public func checkBounds(_ count: Int, at offset: UInt64, layer: String) throws(BlockError) {
        guard let range = ByteRange(offset: offset, length: UInt64(count)) else {
            throw .outOfRange("\(layer): \(count) bytes at \(offset) do not fit a device of \(size) bytes")
        }
        try checkBounds(range, layer: layer)
    }
}
