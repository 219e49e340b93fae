// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Glibc
public import SystemPackage

/// Bytes that must not leak: a passphrase or a key.
///
/// They are ``WipedBytes``: locked into memory where the system allows it, left out of core dumps, wiped on release, never
/// changed, so any thread may read them.
public final class Secret: Sendable {
    /// The longest passphrase or key file that is read, in bytes.
    public static let maximumCount = 8 << 20

    /// The length in bytes.
    public let count: Int
    /// As many as `count` says, or more.
    private let bytes: WipedBytes

    /// Makes a secret of `count` bytes; `fill` gets them as zeros.
    public init<Failure: Error>(count: Int, _ fill: (inout MutableRawSpan) throws(Failure) -> Void) throws(Failure) {
        self.bytes = try WipedBytes(count: count, fill)
        self.count = count
    }

    private init(_ bytes: WipedBytes, count: Int) {
        self.bytes = bytes
        self.count = count
    }

    /// A key that nobody has ever had: bytes of the system's generator, straight into protected memory.
    ///
    /// - Parameter count: in bytes, 256 at most.
    public static func random(count: Int) -> Secret {
        Secret(count: count) { span in
            // It fails for more bytes, or for memory that is none.
            let result = unsafe span.withUnsafeMutableBytes { unsafe getentropy($0.baseAddress, count) }
            precondition(result == 0, "the system gives no random bytes")
        }
    }

    /// Gives `body` the bytes to read. They must not be stored anywhere but in another secret.
    public func withBytes<Result, Failure: Error>(
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try bytes.withBytes { (all) throws(Failure) in try body(all.extracting(0..<count)) }
    }

    /// The first `count` bytes as a secret of their own.
    public func prefix(_ count: Int) -> Secret { part(0..<count) }

    /// Some of the bytes as a secret of their own.
    public func part(_ range: Range<Int>) -> Secret {
        // A copy passes through registers, which the dynamic linker may put on the stack: both are wiped.
        SecureHeap.use {
            withBytes { bytes in Secret(count: range.count) { $0.copy(from: bytes.extracting(range)) } }
        }
    }

    /// The secret without one trailing newline, LF or CR LF, as an editor or `echo` leaves it.
    public func droppingTrailingNewline() -> Secret {
        withBytes { bytes in
            guard count > 0, bytes.byte(at: count - 1) == 0x0A else { return self }
            let hasReturn = count > 1 && bytes.byte(at: count - 2) == 0x0D
            return prefix(count - (hasReturn ? 2 : 1))
        }
    }

    /// Are the bytes the same? Takes as long for any bytes of this length.
    public func equals(_ other: Secret) -> Bool {
        guard count == other.count else { return false }
        return withBytes { bytes in
            other.withBytes { others in
                (0..<count).reduce(0 as UInt8) { $0 | (bytes.byte(at: $1) ^ others.byte(at: $1)) } == 0
            }
        }
    }

    /// Reads a file, straight into protected memory.
    ///
    /// - Parameters:
    ///   - offset: bytes to skip before.
    ///   - limit: bytes to read at most; nil: all up to the end.
    /// - Returns: nil when there is more than ``maximumCount`` bytes.
    /// - Throws: `Errno` when the descriptor cannot be read.
    public static func read(
        from descriptor: FileDescriptor, offset: UInt64 = 0, limit: Int? = nil
    ) throws(Errno) -> Secret? {
        try skip(offset, of: descriptor)
        return try read(from: descriptor, limit: limit, once: false)
    }

    /// Moves on in a file, or reads what is to be skipped of a pipe.
    private static func skip(_ offset: UInt64, of descriptor: FileDescriptor) throws(Errno) {
        guard offset > 0, let distance = Int(exactly: offset) else {
            guard offset == 0 else { throw .invalidArgument }
            return
        }
        if lseek(descriptor.rawValue, distance, SEEK_CUR) >= 0 { return }
        var left = offset
        while left > 0 {
            let count = Int(min(left, 64 << 10))
            guard let skipped = try read(from: descriptor, limit: count, once: false), skipped.count > 0 else { return }
            left -= UInt64(skipped.count)
        }
    }

    /// Reads what a terminal in line mode gives at once: a line with its end.
    public static func readLine(from terminal: FileDescriptor) throws(Errno) -> Secret {
        // A terminal gives at most 4096 bytes, so the limit cannot be reached.
        try read(from: terminal, limit: nil, once: true) ?? Secret(count: 0) { _ in }
    }

    private static func read(
        from descriptor: FileDescriptor, limit: Int?, once: Bool
    ) throws(Errno) -> Secret? {
        var bytes = WipedBytes(count: 0) { _ in }
        var count = 0
        var isAtEnd = false
        while !isAtEnd, count != limit, count <= maximumCount {
            let room = min(max(4096, bytes.count * 4), limit ?? .max)
            bytes = try WipedBytes(count: room) { [bytes] (span) throws(Errno) in
                bytes.withBytes { span.copy(from: $0.extracting(0..<count)) }
                while !isAtEnd, count < room, count <= maximumCount {
                    let got = try read(from: descriptor, into: &span, at: count)
                    count += got
                    isAtEnd = got == 0 || once
                }
            }
        }
        return count > maximumCount ? nil : Secret(bytes, count: count)
    }

    /// Reads what there is, once; nothing is the end.
    private static func read(
        from descriptor: FileDescriptor, into span: inout MutableRawSpan, at offset: Int
    ) throws(Errno) -> Int {
        while true {
            let got = unsafe span.withUnsafeMutableBytes { bytes in
                let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[offset...])
                return unsafe Glibc.read(descriptor.rawValue, rest.baseAddress, rest.count)
            }
            if got >= 0 { return got }
            let error = Errno(rawValue: errno)
            guard error == .interrupted else { throw error }
        }
    }
}
