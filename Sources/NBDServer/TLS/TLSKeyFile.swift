// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Glibc
import SystemPackage

/// A file of keys or certificates, read straight into protected memory.
struct TLSKeyFile {
    /// All of it.
    let bytes: WipedBytes
    /// Whether any user of the machine may read it.
    let isReadableByAll: Bool

    /// Reads a file of at most `maximum` bytes.
    ///
    /// - Parameter remedy: what names the file, for the sentence.
    /// - Throws: ``TLSError`` when it cannot be read or is longer.
    init(_ path: String, maximum: Int = 1 << 20, remedy: Remedy) throws(TLSError) {
        let descriptor: FileDescriptor
        do {
            descriptor = try FileDescriptor.open(FilePath(path), .readOnly, options: [.closeOnExec, .nonBlocking])
        } catch {
            let advice: Sentence =
                (error as? Errno) == .noSuchFileOrDirectory
                ? "make it, or correct \(remedy: remedy)" : "let the user of this program read it"
            throw TLSError("cannot open \(path): \(error); \(advice)")
        }
        defer { try? descriptor.close() }
        var status = stat()
        guard unsafe fstat(descriptor.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw TLSError("\(path) is not a regular file; correct \(remedy: remedy)")
        }
        guard status.st_size <= maximum else {
            throw TLSError(
                "\(path) has \(status.st_size) bytes, and at most \(maximum) are read; correct \(remedy: remedy)")
        }
        bytes = try WipedBytes(count: Int(status.st_size)) { (span) throws(TLSError) in
            guard Self.fill(&span, from: descriptor) else {
                throw TLSError("cannot read \(path): \(Errno(rawValue: errno)); try again")
            }
        }
        isReadableByAll = status.st_mode & S_IROTH != 0
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
}
