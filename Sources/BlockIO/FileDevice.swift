// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Synchronization
public import SystemPackage

/// A regular file or a block device, opened for reading, or for reading and writing.
///
/// Any number of threads may call it at the same time; the file position is never used.
public final class FileDevice: GrowableDevice {
    /// The length in bytes when the file was opened, or as it has grown by this device.
    public var size: UInt64 { knownSize.load(ordering: .relaxed) }
    private let knownSize: Atomic<UInt64>
    /// One thread at a time makes the file longer.
    private let growth = Locked(())
    /// As many as the system serves side by side from a disk.
    public let depth = 8
    /// Any offset and length is accepted.
    public let alignment = 1
    /// Tells whether two names are of one file.
    public let identity: Identity
    /// The user whose file it is.
    let owner: UInt32
    /// Was it opened for writing?
    public let isWritable: Bool
    /// Why nobody is kept from writing to it, though that was wanted: a sentence for a warning.
    public let missingLocks: String?
    let descriptor: FileDescriptor
    /// Every flush passes it.
    let flushGate: FlushGate

    /// The device and inode of a file.
    public struct Identity: Hashable, Sendable {
        let device: UInt64
        let inode: UInt64

        /// Of an open file.
        init(_ status: stat) {
            device = UInt64(status.st_dev)
            inode = UInt64(status.st_ino)
        }
    }

    /// Opens `path`.
    ///
    /// - Parameters:
    ///   - excludesWriters: take QEMU's image locks, so that no QEMU process writes to the image while this device
    ///     exists; refuse an image that one writes to already.
    ///   - isWritable: open it for writing as well, and with locks let nobody else use the image; a block device is opened
    ///     for this process alone.
    ///   - allowsUnlocked: write to it even where the file system knows no locks.
    /// - Throws: ``FormatError`` with code `unreadable` when it cannot be opened or is not a file or a block device, or
    ///   `inUse`.
    public convenience init(
        path: FilePath, excludesWriters: Bool, isWritable: Bool = false, allowsUnlocked: Bool = false
    ) throws(FormatError) {
        let descriptor: FileDescriptor
        do {
            // Opening a FIFO would wait for a writer without O_NONBLOCK, which means nothing to a file.
            descriptor = try FileDescriptor.open(
                path, isWritable ? .readWrite : .readOnly, options: [.nonBlocking, .closeOnExec])
        } catch {
            throw Self.cannotOpen(error, isWritable)
        }
        try self.init(
            descriptor, excludesWriters: excludesWriters, isWritable: isWritable, allowsUnlocked: allowsUnlocked)
    }

    /// Takes over an open file, which is closed when this fails.
    init(
        _ found: FileDescriptor, excludesWriters: Bool, isWritable: Bool = false, allowsUnlocked: Bool = false
    ) throws(FormatError) {
        self.isWritable = isWritable
        var descriptor = found
        do throws(FormatError) {
            let size: UInt64
            (size, identity, owner) = try Self.examine(descriptor)
            knownSize = Atomic(size)
            if isWritable { try Self.openExclusively(&descriptor) }
            missingLocks =
                excludesWriters
                ? try Self.lock(descriptor, isWritable: isWritable, allowsUnlocked: allowsUnlocked) : nil
        } catch {
            try? descriptor.close()
            throw error
        }
        self.descriptor = descriptor
        flushGate = FlushGate { [descriptor] in Self.flush(descriptor) }
    }

    deinit { try? descriptor.close() }

    /// Takes the locks of a reader or a writer.
    /// - Returns: why there are none.
    private static func lock(
        _ descriptor: FileDescriptor, isWritable: Bool, allowsUnlocked: Bool
    ) throws(FormatError) -> String? {
        let lock = ImageLock(descriptor)
        switch isWritable ? lock.admitWriter() : lock.admitReader() {
        case .admitted: return nil
        case .inUse: throw inUse(LockHolder.find(descriptor), isWritable)
        case .noLocks(let error):
            let reason = "the file system knows no locks (\(error)): nothing keeps other programs from writing to it"
            guard !isWritable || allowsUnlocked else {
                throw .unreadable(
                    "\(reason); see to it that nobody else opens it, and add \(remedy: .allowUnlocked), or serve it without \(remedy: .writable)"
                )
            }
            return reason
        case .failed(let error):
            let advice: Sentence =
                isWritable
                ? "serve it without \(remedy: .writable)"
                : "add \(remedy: .shareWithWriters) to read it without locks"
            throw .unreadable("its locks cannot be taken, or looked at: \(error); \(advice)")
        }
    }

    private static func inUse(_ holder: LockHolder?, _ isWritable: Bool) -> FormatError {
        if holder?.isSelf == true {
            return .inUse("it was named twice, and one of the two is to be written to; name it once")
        }
        let who = holder.map { " (\($0.command), process \($0.process))" } ?? ""
        return isWritable
            ? .inUse(
                "another program uses the image\(who), a running virtual machine perhaps, or it was named twice; stop that one "
                    + "first")
            : .inUse(
                "another program writes to the image or has locked it\(who), a running virtual machine perhaps; stop it, "
                    + "or add \(remedy: .shareWithWriters) to read an image that changes meanwhile")
    }

    /// Opens a block device for this process alone, in place of `descriptor`: nobody mounts it meanwhile.
    private static func openExclusively(_ descriptor: inout FileDescriptor) throws(FormatError) {
        var status = stat()
        guard unsafe fstat(descriptor.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFBLK else { return }
        let exclusive = linux_open_exclusively(descriptor.rawValue)
        guard exclusive >= 0 else { throw cannotOpenExclusively(Errno(rawValue: errno)) }
        try? descriptor.close()
        descriptor = FileDescriptor(rawValue: exclusive)
    }

    /// What to say of a block device that is not opened for writing.
    static func cannotOpenExclusively(_ error: Errno) -> FormatError {
        guard error == .resourceBusy else { return .unreadable("it cannot be opened for this program alone: \(error)") }
        return .inUse(
            "the block device is in use: mounted, a part of LVM, RAID or another device, or another program's; lsblk and "
                + "findmnt show whose; unmount or close it first, or serve it without \(remedy: .writable)")
    }

    private static func cannotOpen(_ error: any Error, _ isWritable: Bool) -> FormatError {
        let advice: Sentence =
            switch error as? Errno {
            case .noSuchFileOrDirectory: "; check the name"
            case .permissionDenied where isWritable:
                "; run this as a user who may write to it, or without \(remedy: .writable)"
            case .readOnlyFileSystem: "; serve it without \(remedy: .writable)"
            case .permissionDenied: "; run this as a user who may read the file"
            default: ""
            }
        return .unreadable("it cannot be opened: \(error)\(advice)")
    }

    private static func examine(
        _ descriptor: FileDescriptor
    ) throws(FormatError) -> (size: UInt64, identity: Identity, owner: UInt32) {
        var status = stat()
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else {
            throw .unreadable("it cannot be examined: \(Errno(rawValue: errno))")
        }
        let identity = Identity(status)
        switch status.st_mode & S_IFMT {
        case S_IFREG:
            return (UInt64(status.st_size), identity, status.st_uid)
        case S_IFBLK:
            var size: UInt64 = 0
            guard unsafe linux_block_device_size(descriptor.rawValue, &size) == 0 else {
                throw .unreadable("it does not tell its size: \(Errno(rawValue: errno))")
            }
            return (size, identity, status.st_uid)
        case S_IFDIR:
            throw .unreadable("it is a directory; name an image file in it")
        default:
            throw .unreadable("it is neither a file nor a block device; name an image file")
        }
    }

    /// Reads with pread(2), or with RWF_NOWAIT where it must not wait.
    public func read(into buffer: inout MutableRawSpan, at offset: UInt64, _ mode: ReadMode) throws(BlockError) {
        try checkBounds(buffer.byteCount, at: offset, layer: "file")
        let failure: BlockError? = unsafe buffer.withUnsafeMutableBytes { bytes in
            var done = 0
            while done < bytes.count {
                let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[done...])
                let place = off_t(offset) + off_t(done)
                let count =
                    mode.mayWait
                    ? unsafe pread(descriptor.rawValue, rest.baseAddress, rest.count, place)
                    : unsafe linux_pread_nowait(descriptor.rawValue, rest.baseAddress, rest.count, place)
                if count > 0 {
                    done += count
                    continue
                }
                let what = "file: reading \(rest.count) bytes at \(place)"
                guard count < 0 else { return .inputOutput("\(what): the file has become shorter than \(size) bytes") }
                switch Errno(rawValue: errno) {
                case .interrupted: continue
                case .wouldBlock: return .wouldBlock
                // Not every file system can say whether a read would wait: ask a thread that may.
                case .notSupported where !mode.mayWait: return .wouldBlock
                case let error: return .inputOutput("\(what): \(error)")
                }
            }
            return nil
        }
        if let failure { throw failure }
    }

    /// What one call has the system read ahead, in bytes.
    private static let prefetchStep: UInt64 = 16 << 20

    /// Has the system read ahead: posix_fadvise(2) with POSIX_FADV_WILLNEED.
    public func prefetch(_ range: ByteRange, _ budget: Budget) {
        guard range.fits(size) else { return }
        var position = range.offset
        while position < range.end, budget.look() {
            let length = min(Self.prefetchStep, range.end - position)
            _ = posix_fadvise(descriptor.rawValue, off_t(position), off_t(length), POSIX_FADV_WILLNEED)
            position += length
        }
    }

    /// Holes of the file are unallocated, though this layer says so; a file system that knows none has only data.
    ///
    /// So has what the file has lost since it was opened: a read of it fails, and nobody may take it for zeros.
    public func extent(at offset: UInt64, limit: UInt64, _ mode: ReadMode) throws(BlockError) -> Extent {
        try checkBounds(1, at: offset, layer: "file")
        // Where the holes are may have to be read from the disk.
        guard mode.mayWait else { throw .wouldBlock }
        let end = min(size, offset.addingReportingOverflow(limit).overflow ? size : offset + limit)
        let data = linux_seek_data(descriptor.rawValue, off_t(offset))
        // ENXIO: a hole up to the end of what there is now. Anything else: this file cannot say, so all of it is data.
        let isAtEnd = data < 0 && Errno(rawValue: errno) == .noSuchAddressOrDevice
        let holeEnd = min(end, isAtEnd ? presentSize : UInt64(max(data, 0)))
        if holeEnd > offset {
            return Extent(offset: offset, length: holeEnd - offset, kind: .unallocated, depth: 1)
        }
        let hole = linux_seek_hole(descriptor.rawValue, off_t(offset))
        let dataEnd = hole > off_t(offset) ? min(end, UInt64(hole)) : end
        return Extent(offset: offset, length: dataEnd - offset, kind: .data)
    }

    /// Makes a regular file longer: ftruncate(2). A block device is as long as it is.
    public func grow(to size: UInt64) throws(BlockError) {
        guard isWritable else { throw .readOnly }
        try growth.withLock { (_) throws(BlockError) in
            let known = self.size
            guard size > known else { return }
            try checkNothingIsLost()
            while ftruncate(descriptor.rawValue, off_t(clamping: size)) != 0 {
                let error = Errno(rawValue: errno)
                guard error == .interrupted else {
                    // EINVAL is what a block device says.
                    if error == .invalidArgument { throw .noSpace("file: it cannot be made longer: \(error)") }
                    throw Self.failure("making it \(size) bytes long", error)
                }
            }
            knownSize.store(size, ordering: .relaxed)
        }
    }

    /// The length that a regular file has now, in bytes; 0 when it does not tell. A block device is as long as it was.
    var presentSize: UInt64 {
        var status = stat()
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { return 0 }
        return status.st_mode & S_IFMT == S_IFREG ? UInt64(status.st_size) : size
    }
}
