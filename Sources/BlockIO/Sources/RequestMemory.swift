// SPDX-License-Identifier: Apache-2.0

/// Memory of one request to a source, which stays where it is until nobody holds it.
///
/// A library that answers later is given its address. The request keeps it, not the caller: when the caller has long given
/// up, an answer still has a place that is its own. An array has no address that stays.
///
/// One at a time has it: whoever makes the request, then the source, until it has answered; then anybody may read.
@safe
public final class RequestMemory: @unchecked Sendable {
    /// What sources may rely on, in bytes: enough for a file that is read past the cache of the system.
    public static let alignment = 4096

    private let memory: UnsafeMutableRawBufferPointer

    /// In bytes.
    public var byteCount: Int { unsafe memory.count }

    /// Where it is, for a library; valid as long as somebody holds this object.
    @unsafe public var address: UnsafeMutableRawBufferPointer { unsafe memory }

    /// Takes `byteCount` bytes of zeros.
    public init(byteCount: Int) {
        unsafe memory = .allocate(byteCount: byteCount, alignment: Self.alignment)
        // What a source says that it has filled, and has not, must not be somebody else's.
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0)
    }

    /// Takes a copy of `bytes`.
    public init(copying bytes: RawSpan) {
        unsafe memory = .allocate(byteCount: bytes.byteCount, alignment: Self.alignment)
        unsafe bytes.withUnsafeBytes { bytes in unsafe memory.copyMemory(from: bytes) }
    }

    deinit { unsafe memory.deallocate() }

    /// Gives `body` the bytes to read.
    public func withBytes<Result, Failure: Error>(_ body: (RawSpan) throws(Failure) -> Result) throws(Failure) -> Result
    {
        try body(unsafe memory.bytes)
    }

    /// Gives `body` the bytes to change.
    public func withMutableBytes<Result, Failure: Error>(
        _ body: (inout MutableRawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var bytes = unsafe memory.mutableBytes
        return try body(&bytes)
    }
}
