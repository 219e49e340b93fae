// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import CLinux
import Glibc
import Synchronization
public import SystemPackage

/// Bytes that must not leak: a passphrase or a key.
///
/// They live in pages of their own, which are locked into memory where the system allows it, left out of core dumps
/// and wiped on release. They do not change once the secret is made, so any thread may read them. The type has no
/// description and no way to copy its bytes out in one piece.
@safe
public final class Secret: @unchecked Sendable {
    /// The longest passphrase or key file that is read, in bytes.
    public static let maximumCount = 8 << 20

    /// The length in bytes.
    public let count: Int
    /// False when the system refused to lock the pages (RLIMIT_MEMLOCK): they could reach the swap.
    public let isLocked: Bool
    private let pages: UnsafeMutableRawBufferPointer

    /// Makes a secret of `count` bytes; `fill` gets them as zeros.
    public init<Failure: Error>(count: Int, _ fill: (inout MutableRawSpan) throws(Failure) -> Void) throws(Failure) {
        (unsafe self.pages, self.isLocked) = unsafe Self.allocate(count)
        self.count = count
        var span = unsafe MutableRawSpan(_unsafeBytes: pages[..<count])
        try fill(&span)
    }

    private init(pages: UnsafeMutableRawBufferPointer, isLocked: Bool, count: Int) {
        unsafe self.pages = unsafe pages
        self.isLocked = isLocked
        self.count = count
    }

    deinit { unsafe Self.release(pages) }

    /// Gives `body` the bytes to read. They must not be stored anywhere but in another secret.
    public func withBytes<Result, Failure: Error>(
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(pages)[..<count]))
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

    /// False once the system has refused to lock any secret of this process: it could reach the swap.
    public static var allAreLocked: Bool { !lockHasFailed.load(ordering: .relaxed) }
    private static let lockHasFailed = Atomic(false)

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
        var (pages, isLocked) = unsafe allocate(4096)
        var count = 0
        while true {
            if count == pages.count {
                let larger = unsafe allocate(pages.count * 4)
                unsafe larger.pages.copyMemory(from: UnsafeRawBufferPointer(pages))
                unsafe release(pages)
                unsafe (pages, isLocked) = unsafe larger
            }
            let wanted = min(pages.count, limit ?? pages.count)
            let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: pages[count..<max(count, wanted)])
            let got = unsafe Glibc.read(descriptor.rawValue, rest.baseAddress, rest.count)
            if got < 0 {
                let error = Errno(rawValue: errno)
                if error == .interrupted { continue }
                unsafe release(pages)
                throw error
            }
            count += got
            if got == 0 || once || count == limit {
                return unsafe Secret(pages: pages, isLocked: isLocked, count: count)
            }
            if count > maximumCount {
                unsafe release(pages)
                return nil
            }
        }
    }

    private static func allocate(_ count: Int) -> (pages: UnsafeMutableRawBufferPointer, isLocked: Bool) {
        var length = count
        var isLocked = false
        guard let start = unsafe linux_take_secret_pages(&length, &isLocked) else {
            fatalError("no memory for a secret")
        }
        if !isLocked { lockHasFailed.store(true, ordering: .relaxed) }
        return (unsafe UnsafeMutableRawBufferPointer(start: start, count: length), isLocked)
    }

    private static func release(_ pages: UnsafeMutableRawBufferPointer) {
        unsafe linux_release_secret_pages(pages.baseAddress, pages.count)
    }
}
