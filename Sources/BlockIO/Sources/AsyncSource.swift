// SPDX-License-Identifier: Apache-2.0

/// Bytes far away, behind a library that answers later. ``RemoteDevice`` makes a device of it.
///
/// It does what the library does and nothing else: no cache, no deadline, no waiting. docs/sources.md says what is expected.
public protocol AsyncSource: AnyObject, Sendable {
    /// The length in bytes when it was opened.
    var size: UInt64 { get }
    /// Offsets and lengths must be multiples of this many bytes, a power of two of at most ``RequestMemory/alignment``.
    var alignment: Int { get }
    /// Was it opened for writing?
    var isWritable: Bool { get }
    /// Does it answer ``SourceOperation/extents(_:)``? Otherwise nobody asks, and all is data.
    var tellsExtents: Bool { get }
    /// How many requests it may have under way at once; never more are begun. At least 1.
    var depth: Int { get }
    /// Which source this was when it was opened.
    var identity: SourceIdentity { get }

    /// Begins a request, and returns without waiting for anything.
    ///
    /// The source holds the request until it has called ``SourceRequest/complete(_:)`` or ``SourceRequest/fail(_:)``, once,
    /// on any thread, also before this returns. Requests may be answered in any order. Any number of threads may call
    /// this at the same time, the thread that answers among them.
    func begin(_ request: SourceRequest)

    /// Nobody waits for a request any more: it may be stopped, and is answered all the same; a hint.
    func abandon(_ request: SourceRequest)
}

extension AsyncSource {
    /// Goes on: most libraries cannot stop a request.
    public func abandon(_ request: SourceRequest) {}
}
