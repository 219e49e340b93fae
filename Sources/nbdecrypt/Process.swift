// SPDX-License-Identifier: Apache-2.0

import CLinux
import Dispatch
import Glibc
import SystemPackage

/// The system calls of the program itself: signals, descriptors, directories, environment.
enum Process {
    private static func withTerminationSignals<Result>(_ body: (inout sigset_t) -> Result) -> Result {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        for signal in [SIGINT, SIGTERM, SIGHUP] { unsafe sigaddset(&signals, signal) }
        return body(&signals)
    }

    /// Keeps SIGINT, SIGTERM and SIGHUP pending until ``onTermination(_:)`` takes them.
    static func blockTerminationSignals() {
        _ = withTerminationSignals { unsafe pthread_sigmask(SIG_BLOCK, &$0, nil) }
        signal(SIGPIPE, SIG_IGN)
    }

    /// Lets those signals end the program while `body` waits for a person.
    static func withTerminationSignalsAllowed<Result>(_ body: () throws -> Result) rethrows -> Result {
        _ = withTerminationSignals { unsafe pthread_sigmask(SIG_UNBLOCK, &$0, nil) }
        defer { _ = withTerminationSignals { unsafe pthread_sigmask(SIG_BLOCK, &$0, nil) } }
        return try body()
    }

    /// Calls `handler` for each of those signals, on a thread of its own, and says whether it is the first.
    static func onTermination(_ handler: @escaping @Sendable (_ signal: Int32, _ isFirst: Bool) -> Void) {
        DispatchQueue(label: "nbdecrypt.signals").async {
            var isFirst = true
            while true {
                var number: Int32 = 0
                if withTerminationSignals({ unsafe sigwait(&$0, &number) }) == 0 {
                    handler(number, isFirst)
                    isFirst = false
                }
            }
        }
    }

    /// Leaves the program to its other threads.
    static func parkMainThread() -> Never {
        while true { pause() }
    }

    /// Keeps keys out of core dumps and away from debuggers.
    static func forbidDumps() { _ = linux_forbid_dumps() }

    /// As many clients as the system lets this user have.
    static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    static var identifier: Int32 { getpid() }

    static var processorCount: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    static func exit(_ status: Int32) -> Never { Glibc.exit(status) }

    /// Ends at once, without cleaning up.
    static func exitNow(_ status: Int32) -> Never { _exit(status) }

    static func environment(_ name: String) -> String? {
        unsafe getenv(name).map { unsafe String(cString: $0) }
    }

    static func removeFromEnvironment(_ name: String) { unsafe unsetenv(name) }

    /// One line on standard error.
    static func printError(_ text: String) { printLine("nbdecrypt: \(text)", to: .standardError) }

    /// One line; a reader that has gone is no reason to stop.
    static func printLine(_ text: String, to descriptor: FileDescriptor = .standardOutput) {
        _ = try? descriptor.writeAll(Array("\(text)\n".utf8))
    }

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
        guard !path.hasPrefix("/") else { return path }
        guard let directory = unsafe getcwd(nil, 0) else { return path }
        defer { unsafe free(directory) }
        return FilePath(unsafe String(cString: directory)).pushing(FilePath(path)).lexicallyNormalized().string
    }

    static func removeFile(_ path: String) { unsafe unlink(path) }

    static func removeDirectory(_ path: String) { unsafe rmdir(path) }
}
