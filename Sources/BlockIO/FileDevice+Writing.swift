// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Synchronization
import SystemPackage

extension FileDevice {
    /// What zeros are written with where the system cannot make them.
    private static let zeros = [UInt8](repeating: 0, count: 1 << 20)

    /// Writes with pwrite(2), to the page cache.
    public func write(_ bytes: RawSpan, at offset: UInt64) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(bytes.byteCount, at: offset, layer: "file")
        let failure: BlockError? = unsafe bytes.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[done...])
                let place = off_t(offset) + off_t(done)
                let count = unsafe pwrite(descriptor.rawValue, rest.baseAddress, rest.count, place)
                if count >= 0 {
                    done += count
                    continue
                }
                let error = Errno(rawValue: errno)
                if error != .interrupted { return Self.failure("writing \(rest.count) bytes at \(place)", error) }
            }
            return nil
        }
        if let failure { throw failure }
    }

    /// Punches a hole when the space may go, else has the file system make zeros; where it can do neither, writes them.
    public func zero(_ range: ByteRange, _ options: ZeroOptions) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try checkBounds(range, layer: "file")
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
                try write(zeros.extracting(0..<count), at: place)
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

    /// fdatasync(2); once it has failed, it fails for everybody from then on.
    public func flush() throws(BlockError) {
        guard isWritable else { return }
        while fdatasync(descriptor.rawValue) != 0 {
            let error = Errno(rawValue: errno)
            guard error == .interrupted else {
                flushFailure.withLock { $0 = Self.failure("flushing", error) }
                break
            }
        }
        if let failure = flushFailure.withLock({ $0 }) { throw failure }
    }

    private static func failure(_ action: String, _ error: Errno) -> BlockError {
        // EDQUOT and EFBIG are no space to NBD as well.
        switch error {
        case .noSpace, .diskQuotaExceeded, .fileTooLarge: .noSpace("file: \(action): \(error)")
        default: .inputOutput("file: \(action): \(error)")
        }
    }
}
