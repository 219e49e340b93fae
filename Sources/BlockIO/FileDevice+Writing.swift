// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import SystemPackage

extension FileDevice {
    /// What zeros are written with where the system cannot make them.
    private static let zeros = [UInt8](repeating: 0, count: 1 << 20)

    /// Writes with pwrite(2), to the page cache; flushes all of the file when the bytes have to be on disk.
    ///
    /// `bytes` stays as it is.
    public func write(_ bytes: inout MutableRawSpan, at offset: UInt64, _ options: WriteOptions) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(bytes.byteCount, at: offset, layer: "file")
        try checkNothingIsLost()
        try put(bytes.bytes, at: offset)
        if options.contains(.durable) { try flush() }
    }

    private func put(_ bytes: RawSpan, at offset: UInt64) throws(BlockError) {
        let failure: BlockError? = unsafe bytes.withUnsafeBytes { bytes in
            Self.writeAll(bytes.count, at: offset) { done in
                let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[done...])
                let count = unsafe pwrite(
                    descriptor.rawValue, rest.baseAddress, rest.count, off_t(offset) + off_t(done))
                return count < 0 ? .failure(Errno(rawValue: errno)) : .success(count)
            }
        }
        if let failure { throw failure }
    }

    /// Calls `writeOnce` with how many of `count` bytes are written, until all are; it writes some of the others, and tells
    /// how many.
    /// - Returns: why it cannot go on.
    static func writeAll(_ count: Int, at offset: UInt64, _ writeOnce: (Int) -> Result<Int, Errno>) -> BlockError? {
        var done = 0
        while done < count {
            switch writeOnce(done) {
            case .success(let written) where written > 0: done += written
            // It would go on for ever.
            case .success:
                return .inputOutput("file: writing \(count - done) bytes at \(offset + UInt64(done)): none is taken")
            case .failure(.interrupted): continue
            case .failure(let error):
                return Self.failure("writing \(count - done) bytes at \(offset + UInt64(done))", error)
            }
        }
        return nil
    }

    /// What is written behind the end of a file that has become shorter would make zeros of what it has lost.
    func checkNothingIsLost() throws(BlockError) {
        // In this order: another thread may make the file longer in between.
        let size = self.size
        guard presentSize < size else { return }
        throw .inputOutput("file: it has become shorter than \(size) bytes, and is not written to any more")
    }

    /// Punches a hole when the space may go, else has the file system make zeros; where it can do neither, writes them.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "file")
        // What is lost stays so when a range behind the end is made zero.
        try checkNothingIsLost()
        try makeZero(range, options)
        if options.contains(.durable) { try flush() }
    }

    private func makeZero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        let (offset, length) = (off_t(range.offset), off_t(range.length))
        if options.contains(.mayDiscard), linux_punch_hole(descriptor.rawValue, offset, length) == 0 { return }
        if linux_zero_range(descriptor.rawValue, offset, length) == 0 { return }
        let error = Errno(rawValue: errno)
        // What a file system or a block device cannot do, or not at these offsets.
        guard error == .notSupported || error == .invalidArgument || error == .noFunction else {
            throw Self.failure("making \(range.length) bytes at \(range.offset) zero", error)
        }
        guard !options.contains(.fastOnly) else { throw .notSupported }
        var done: UInt64 = 0
        while done < range.length {
            let count = Int(min(UInt64(Self.zeros.count), range.length - done))
            let place = range.offset + done
            try Self.zeros.withBytes { (zeros) throws(BlockError) in
                try put(zeros.extracting(0..<count), at: place)
            }
            done += UInt64(count)
        }
    }

    /// Punches a hole, where the file system can.
    public func discard(_ range: ByteRange) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "file")
        _ = linux_punch_hole(descriptor.rawValue, off_t(range.offset), off_t(range.length))
    }

    /// fdatasync(2), one at a time; once it has failed, it fails for everybody from then on. What has been cut off the file
    /// is not on disk, either.
    public func flush() throws(BlockError) {
        guard isWritable else { return }
        try flushGate.pass()
        try checkNothingIsLost()
    }

    /// For ``flushGate``.
    static func flush(_ descriptor: FileDescriptor) -> BlockError? {
        while fdatasync(descriptor.rawValue) != 0 {
            let error = Errno(rawValue: errno)
            if error != .interrupted { return failure("flushing", error) }
        }
        return nil
    }

    static func failure(_ action: String, _ error: Errno) -> BlockError {
        // EDQUOT and EFBIG are no space to NBD as well.
        switch error {
        case .noSpace, .diskQuotaExceeded, .fileTooLarge: .noSpace("file: \(action): \(error)")
        default: .inputOutput("file: \(action): \(error)")
        }
    }
}
