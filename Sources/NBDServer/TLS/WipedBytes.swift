// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import CLinux
import Glibc
import SystemPackage

/// Key material in pages of its own, which are locked where the system allows it, not dumped, and wiped on release.
///
/// It does not change once it is made, so any thread may read it.
@safe
final class WipedBytes: @unchecked Sendable {
    /// The length in bytes.
    let count: Int
    private let pages: UnsafeMutableRawBufferPointer

    /// Makes `count` bytes; `fill` gets them as zeros.
    init<Failure: Error>(count: Int, _ fill: (inout MutableRawSpan) throws(Failure) -> Void) throws(Failure) {
        var length = count
        // They are locked where the system allows it.
        var isProtected = false
        guard let start = unsafe linux_take_secret_pages(&length, &isProtected) else {
            fatalError("no memory for a key")
        }
        unsafe self.pages = UnsafeMutableRawBufferPointer(start: start, count: length)
        self.count = count
        var span = unsafe MutableRawSpan(_unsafeBytes: pages[..<count])
        try fill(&span)
    }

    deinit { unsafe linux_release_secret_pages(pages.baseAddress, pages.count) }

    /// Gives `body` the bytes to read.
    func withBytes<Result, Failure: Error>(_ body: (RawSpan) throws(Failure) -> Result) throws(Failure) -> Result {
        try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(pages)[..<count]))
    }

    /// A file read straight into protected memory.
    struct File {
        let bytes: WipedBytes
        /// Whether any user of the machine may read it.
        let isReadableByAll: Bool
    }

    /// Reads a file of at most `maximum` bytes.
    ///
    /// - Parameter option: the option that names the file, for the sentence.
    /// - Throws: ``TLSError`` when it cannot be read or is longer.
    static func read(_ path: String, maximum: Int = 1 << 20, option: String) throws(TLSError) -> File {
        let descriptor: FileDescriptor
        do {
            descriptor = try FileDescriptor.open(FilePath(path), .readOnly, options: [.closeOnExec, .nonBlocking])
        } catch {
            let advice =
                (error as? Errno) == .noSuchFileOrDirectory
                ? "make it, or correct \(option)" : "let the user of this program read it"
            throw TLSError("cannot open \(path): \(error); \(advice)")
        }
        defer { try? descriptor.close() }
        var status = stat()
        guard unsafe fstat(descriptor.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw TLSError("\(path) is not a regular file; correct \(option)")
        }
        guard status.st_size <= maximum else {
            throw TLSError("\(path) has \(status.st_size) bytes, and at most \(maximum) are read; correct \(option)")
        }
        let bytes = try WipedBytes(count: Int(status.st_size)) { (span) throws(TLSError) in
            guard fill(&span, from: descriptor) else {
                throw TLSError("cannot read \(path): \(Errno(rawValue: errno)); try again")
            }
        }
        return File(bytes: bytes, isReadableByAll: status.st_mode & S_IROTH != 0)
    }

    private static func fill(_ span: inout MutableRawSpan, from descriptor: FileDescriptor) -> Bool {
        unsafe span.withUnsafeMutableBytes { bytes in
            var filled = 0
            while filled < bytes.count {
                let got = unsafe pread(
                    descriptor.rawValue, bytes.baseAddress?.advanced(by: filled), bytes.count - filled, filled)
                if got < 0, errno == EINTR { continue }
                // A file that has become shorter keeps zeros at its end, which no parser accepts.
                guard got > 0 else { return got == 0 }
                filled += got
            }
            return true
        }
    }

    /// Writes all bytes.
    /// - Throws: `Errno`.
    func write(to descriptor: FileDescriptor) throws {
        try withBytes { bytes in
            try unsafe bytes.withUnsafeBytes { bytes in _ = try unsafe descriptor.writeAll(bytes) }
        }
    }

    /// Fills a span with random bytes that an attacker cannot guess.
    static func randomize(_ span: inout MutableRawSpan) -> Bool {
        unsafe span.withUnsafeMutableBytes { bytes in
            unsafe getentropy(bytes.baseAddress, bytes.count) == 0
        }
    }
}
