// SPDX-License-Identifier: Apache-2.0

/// What a source is asked to do.
public enum SourceOperation: Equatable, Sendable {
    /// Fill the memory of the request with these bytes.
    case read(ByteRange)
    /// Replace these bytes with those in the memory of the request.
    case write(ByteRange, WriteOptions)
    /// Make these bytes zero.
    case zero(ByteRange, ZeroOptions)
    /// Give up the contents.
    case discard(ByteRange)
    /// Make all that has been answered survive a power failure.
    case flush
    /// Tell what the bytes are, from the first one on, as far as that is known at once.
    case extents(ByteRange)
    /// Become so many bytes long.
    case grow(to: UInt64)

    /// The bytes that it is about; those that come anew are of no request before.
    public var range: ByteRange {
        switch self {
        case .read(let range), .write(let range, _), .zero(let range, _), .discard(let range), .extents(let range):
            range
        case .flush, .grow: .empty
        }
    }

    /// Does it change bytes?
    var isChange: Bool {
        switch self {
        case .write, .zero, .discard: true
        case .read, .flush, .extents, .grow: false
        }
    }

    /// Does it fail when bytes of others may be lost?
    var isDurable: Bool {
        switch self {
        case .write(_, let options): options.contains(.durable)
        case .zero(_, let options): options.contains(.durable)
        case .flush: true
        case .read, .discard, .extents, .grow: false
        }
    }

    /// What is left of a read or a write of which `done` bytes are done.
    func dropping(_ done: Int) -> SourceOperation {
        let rest =
            ByteRange(offset: range.offset + UInt64(done), length: range.length - UInt64(done)) ?? .empty
        return switch self {
        case .read: .read(rest)
        case .write(_, let options): .write(rest, options)
        case .zero, .discard, .flush, .extents, .grow: self
        }
    }

    /// For messages.
    var called: String {
        switch self {
        case .read: "reading \(range.length) bytes at \(range.offset)"
        case .write: "writing \(range.length) bytes at \(range.offset)"
        case .zero: "making \(range.length) bytes at \(range.offset) zero"
        case .discard: "discarding \(range.length) bytes at \(range.offset)"
        case .flush: "flushing"
        case .extents: "asking what is at \(range.offset)"
        case .grow(let size): "making it \(size) bytes long"
        }
    }
}
