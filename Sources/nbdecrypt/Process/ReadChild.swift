// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import SystemPackage

/// A program that runs beside this one, has no input, and whose output this one reads.
///
/// It gets standard error and nothing else of our descriptors, and takes signals as usual. It is started without a copy of
/// this process, so that no other holds the secrets. Any thread may terminate it; one waits for it, once.
struct ReadChild {
    /// How it has ended.
    enum Status: Equatable, CustomStringConvertible {
        case exited(Int32)
        case signalled(Int32)

        var description: String {
            switch self {
            case .exited(let code): "ended with status \(code)"
            case .signalled(let number): "was ended by signal \(number)"
            }
        }
    }

    /// What it prints.
    let output: FileDescriptor
    private let process: Int32

    /// - Parameters:
    ///   - program: as the shell finds it.
    ///   - arguments: two of them.
    /// - Throws: `Errno` when it cannot be started.
    init(_ program: String, _ arguments: (String, String)) throws(Errno) {
        var process: Int32 = 0
        let descriptor = unsafe linux_spawn_reader(program, arguments.0, arguments.1, &process)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        (self.output, self.process) = (FileDescriptor(rawValue: descriptor), process)
    }

    /// Asks it to end. Not to be called once ``wait(_:)`` has said that it has.
    func terminate() { _ = kill(process, SIGTERM) }

    /// Lets its output go, which ends a program that has more to print, and waits until it has ended.
    ///
    /// - Parameter hasEnded: is called before another process can have its number.
    func wait(_ hasEnded: () -> Void) -> Status {
        try? output.close()
        var code: Int32 = 0
        _ = unsafe linux_wait(process, true, &code)
        hasEnded()
        // Nobody else waits for it, so it is there.
        let result = unsafe linux_wait(process, false, &code)
        return result == 0 ? (code < 0 ? .signalled(-code) : .exited(code)) : .exited(-1)
    }
}
