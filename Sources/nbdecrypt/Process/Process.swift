// SPDX-License-Identifier: Apache-2.0

import BlockIO
import CLinux
import Crypto
import Dispatch
import FoundationEssentials
import Glibc
import SystemPackage

/// The system calls of the program itself: signals, descriptors, directories, environment.
enum Process {
    private static let terminationSignals = [SIGINT, SIGTERM, SIGHUP]

    private static func withSignals<Result>(_ numbers: [Int32], _ body: (inout sigset_t) -> Result) -> Result {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        for number in numbers { unsafe sigaddset(&signals, number) }
        return body(&signals)
    }

    /// Keeps SIGINT, SIGTERM, SIGHUP and SIGUSR1 pending until they are waited for.
    static func blockSignals() {
        _ = withSignals(terminationSignals + [SIGUSR1]) { unsafe pthread_sigmask(SIG_BLOCK, &$0, nil) }
        // A library may let signals through to a thread of its own, as that for child processes does while it waits: there, the
        // default action would end the program at once. Sent again, they come to who waits for them.
        for number in terminationSignals + [SIGUSR1] { signal(number) { _ = kill(getpid(), $0) } }
        signal(SIGPIPE, SIG_IGN)
        // At the limit of the size of files (RLIMIT_FSIZE), a write fails, and the client is told.
        signal(SIGXFSZ, SIG_IGN)
    }

    /// Waits for SIGINT, SIGTERM or SIGHUP and takes it.
    static func waitForTerminationSignal() -> Int32 { waitForSignal(terminationSignals) }

    /// Waits for SIGUSR1, which asks what the program is doing, and takes it.
    static func waitForStateSignal() { _ = waitForSignal([SIGUSR1]) }

    private static func waitForSignal(_ numbers: [Int32]) -> Int32 {
        while true {
            var number: Int32 = 0
            if withSignals(numbers, { unsafe sigwait(&$0, &number) }) == 0 { return number }
        }
    }

    /// Opens standard input, output and error if the caller has closed them: what is opened next must not take their place
    /// and be written to. They fail as closed ones do: in the direction that is asked of them they cannot be used.
    static func openStandardDescriptors() {
        for number in 0...2 as ClosedRange<Int32> where fcntl(number, F_GETFD) < 0 {
            _ = try? FileDescriptor.open(FilePath("/dev/null"), number == 0 ? .writeOnly : .readOnly)
        }
    }

    /// Leaves the program to its other threads.
    static func parkMainThread() -> Never { while true { pause() } }

    /// Keeps keys out of core dumps and away from debuggers.
    static func forbidDumps() { _ = linux_forbid_dumps() }

    /// As many clients as the system lets this user have.
    static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// How many descriptors this process may have, and how many it has; nil when the system does not say.
    static var descriptors: (limit: Int, used: Int)? {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
        // What lists them is one of them.
        let used = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count - 1
        return used.map { (Int(clamping: limit.rlim_cur), $0) }
    }

    static var identifier: Int32 { getpid() }

    static var processorCount: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// Ends the program when its last lines are written, or nobody reads them; see ``LineQueue/drain()``. Threads may still
    /// work for clients that have gone: what exit(3) calls leaves their memory alone (see CSecureHeap).
    static func exit(_ status: Int32) -> Never {
        LineQueue.standardError.drain()
        Glibc.exit(status)
    }

    /// The same at a signal, while another thread may be in ``exit(_:)``, which not two may call. What it leaves out matters to
    /// nobody: there are no buffers but those of ``LineQueue``, and the system clears the memory with the secrets before
    /// anybody else gets it.
    static func exitNow(_ status: Int32) -> Never {
        LineQueue.standardError.drain()
        _exit(status)
    }

    /// For a thread, while another one ends the program.
    static func waitForTheEnd() -> Never {
        while true { pause() }
    }

    static func environment(_ name: String) -> String? {
        unsafe getenv(name).map { unsafe String(cString: $0) }
    }

    static func removeFromEnvironment(_ name: String) { unsafe unsetenv(name) }

    /// One line on standard error, after those before.
    static func printError(_ text: String) { LineQueue.standardError.add("nbdecrypt: \(text)\n") }

    /// What was asked for, on standard output, below all that has been said of it on standard error. Waits for the reader.
    /// - Throws: ``Failure`` unless all of it could be written.
    static func printReport(_ text: String) throws(Failure) {
        LineQueue.standardError.drain()
        do throws(Errno) {
            try write(Array("\(text)\n".utf8), to: .standardOutput)
            // Some file systems say only now that they have no room.
            let copy = dup(FileDescriptor.standardOutput.rawValue)
            guard copy >= 0, close(copy) == 0 else { throw Errno(rawValue: errno) }
        } catch {
            let reason = error == .badFileDescriptor ? "it is closed" : "\(error)"
            throw Failure(.cannotWrite, "the report cannot be written to standard output: \(reason)")
        }
    }

    /// Writes all of it, and waits for the reader, also when the descriptor says that one need not.
    static func write(_ bytes: [UInt8], to descriptor: FileDescriptor) throws(Errno) {
        var done = 0
        while done < bytes.count {
            let rest = bytes[done...]
            let count = unsafe rest.withUnsafeBytes { rest in
                unsafe Glibc.write(descriptor.rawValue, rest.baseAddress, rest.count)
            }
            if count > 0 {
                done += count
                continue
            }
            let error = count == 0 ? Errno.ioError : Errno(rawValue: errno)
            switch error {
            case .interrupted: continue
            case .wouldBlock: _ = waitToWrite(descriptor, milliseconds: -1)
            default: throw error
            }
        }
    }

    /// Bytes on their way to another program, which reads them from what is returned; nobody else sees them. They never get
    /// into memory that is not locked.
    static func pipe(_ secret: Secret) throws(Errno) -> FileDescriptor {
        let ends: (readEnd: FileDescriptor, writeEnd: FileDescriptor)
        do { ends = try FileDescriptor.pipe() } catch { throw error as? Errno ?? .ioError }
        for end in [ends.readEnd, ends.writeEnd] { _ = fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) }
        // A long one does not fit the pipe before somebody reads it.
        DispatchQueue(label: "nbdecrypt.secret").async {
            secret.withBytes { bytes in
                var done = 0
                while done < bytes.byteCount {
                    let count = unsafe bytes.extracting(done...).withUnsafeBytes { rest in
                        unsafe Glibc.write(ends.writeEnd.rawValue, rest.baseAddress, rest.count)
                    }
                    // The reader has had enough, and says why itself.
                    guard count > 0 || errno == EINTR else { break }
                    done += max(0, count)
                }
            }
            try? ends.writeEnd.close()
        }
        return ends.readEnd
    }

    /// Would a reader get it at once?
    static func canWrite(to descriptor: FileDescriptor) -> Bool { waitToWrite(descriptor, milliseconds: 0) }

    private static func waitToWrite(_ descriptor: FileDescriptor, milliseconds: Int32) -> Bool {
        var event = pollfd(fd: descriptor.rawValue, events: Int16(POLLOUT), revents: 0)
        return unsafe poll(&event, 1, milliseconds) > 0
    }

    /// Where sockets of this user belong.
    static var runtimeDirectory: String { environment("XDG_RUNTIME_DIR") ?? environment("TMPDIR") ?? "/tmp" }

    /// Makes a directory that only this user can enter, and returns its path.
    static func makePrivateDirectory(in parent: String) throws(Errno) -> String {
        var template = Array("\(parent)/nbdecrypt-XXXXXX".utf8CString)
        let made = unsafe template.withUnsafeMutableBufferPointer { template in
            guard let start = template.baseAddress else { return false }
            return unsafe mkdtemp(start) != nil
        }
        guard made else { throw Errno(rawValue: errno) }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The path as any other process can use it.
    static func absolutePath(_ path: String) -> String {
        path.hasPrefix("/") ? path : FileReferences.absolute(FilePath(path)).string
    }

    /// Where a file is, by its name; absolute.
    static func directory(of path: String) -> FilePath {
        // What is not UTF-8 in the name of the working directory is kept.
        (path.hasPrefix("/") ? FilePath(path) : FileReferences.absolute(FilePath(path))).removingLastComponent()
    }

    /// The first bytes of a regular file; nil for anything else.
    static func read(_ file: FileDescriptor, atMost count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        // What is no regular file cannot be read at an offset.
        let got = unsafe pread(file.rawValue, &bytes, count, 0)
        return got >= 0 ? Array(bytes[..<got]) : nil
    }

    /// All of a file, or of standard input for "-"; nil when that is more.
    static func read(_ path: String, atMost count: Int) throws(Errno) -> [UInt8]? {
        let file: FileDescriptor
        do { file = path == "-" ? .standardInput : try .open(FilePath(path), .readOnly, options: .closeOnExec) } catch {
            throw error as? Errno ?? .ioError
        }
        defer { if path != "-" { try? file.close() } }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while bytes.count <= count {
            let got = unsafe Glibc.read(file.rawValue, &piece, piece.count)
            guard got != 0 else { return bytes }
            if got > 0 { bytes += piece[..<got] } else if errno != EINTR { throw Errno(rawValue: errno) }
        }
        return nil
    }

    static func removeFile(_ path: String) { unsafe unlink(path) }

    /// The device and inode of a file.
    struct FileIdentity: Codable, Equatable {
        let device: UInt
        let inode: UInt
    }

    /// Nil for what is no regular file.
    static func identity(ofRegular file: FileDescriptor) -> FileIdentity? {
        var status = stat()
        guard unsafe fstat(file.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return FileIdentity(device: status.st_dev, inode: status.st_ino)
    }

    /// Is this a name of that file?
    static func isName(_ path: String, of identity: FileIdentity) -> Bool {
        var status = stat()
        return unsafe lstat(path, &status) == 0
            && FileIdentity(device: status.st_dev, inode: status.st_ino) == identity
    }

    /// Removes a name if it is that of this file.
    /// - Returns: why it is still there.
    static func removeFile(_ path: String, ifIt identity: FileIdentity) -> Errno? {
        guard isName(path, of: identity) else { return nil }
        return unsafe unlink(path) == 0 ? nil : Errno(rawValue: errno)
    }

    /// Gives a file another name, in place of what has that now.
    /// - Returns: why it has not.
    static func rename(_ path: String, to other: String) -> Errno? {
        unsafe Glibc.rename(path, other) == 0 ? nil : Errno(rawValue: errno)
    }

    /// Gives a file a name that leads nowhere yet, for good.
    /// - Returns: why it has not.
    static func rename(_ path: String, toNew other: String) -> Errno? {
        guard unsafe linux_rename_to_new(path, other) == 0 else { return Errno(rawValue: errno) }
        let parent = FilePath(other).removingLastComponent().string
        return unsafe linux_flush_directory(parent.isEmpty ? "." : parent) == 0 ? nil : Errno(rawValue: errno)
    }

    /// Does a name lead to something, or is it that of a link that leads nowhere?
    static func exists(_ path: String) -> Bool {
        var status = stat()
        return unsafe lstat(path, &status) == 0
    }

    /// Does a name lead to a file with contents, and to nothing else?
    static func isRegular(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    /// How many bytes this user can still write on the file system of a directory; nil when the system does not say.
    static func freeSpace(in directory: String) -> UInt64? {
        var status = statvfs()
        guard unsafe statvfs(directory, &status) == 0 else { return nil }
        let (bytes, overflow) = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
        return overflow ? .max : bytes
    }

    /// Why no files can be made in a directory.
    static func cannotMakeFiles(in directory: String) -> Errno? {
        unsafe access(directory, W_OK | X_OK) == 0 ? nil : Errno(rawValue: errno)
    }

    /// Marks a file as that of a process that lives, as long as the descriptor is open; where there are no locks it does
    /// nothing.
    static func lock(_ file: FileDescriptor) { _ = linux_lock_byte(file.rawValue, 0) }

    /// Has another process marked it?
    static func isLocked(_ file: FileDescriptor) -> Bool { linux_is_byte_locked(file.rawValue, 0) == 1 }

    static func removeDirectory(_ path: String) { unsafe rmdir(path) }
}
