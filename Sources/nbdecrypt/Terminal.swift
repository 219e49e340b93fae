// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import Glibc
import SystemPackage

/// Asks a person for a passphrase.
enum Terminal {
    /// Shows `prompt` on the controlling terminal and reads a line with echo off.
    ///
    /// - Returns: nil when there is no terminal, or nothing but the end of input came.
    /// - Throws: ``Failure`` when the person pressed ctrl-C.
    static func askPassphrase(_ prompt: String) throws -> Secret? {
        guard let terminal = try? FileDescriptor.open(FilePath("/dev/tty"), .readWrite, options: .closeOnExec) else {
            return nil
        }
        defer { try? terminal.close() }
        var saved = termios()
        guard unsafe tcgetattr(terminal.rawValue, &saved) == 0 else { return nil }
        var quiet = saved
        quiet.c_lflag &= ~tcflag_t(ECHO | ISIG)
        // ctrl-C ends the line instead of the program, which would leave the echo off.
        let interrupt: UInt8 = 3
        unsafe withUnsafeMutableBytes(of: &quiet.c_cc) { unsafe $0[Int(VEOL)] = interrupt }
        guard unsafe tcsetattr(terminal.rawValue, TCSAFLUSH, &quiet) == 0 else { return nil }
        defer {
            unsafe tcsetattr(terminal.rawValue, TCSAFLUSH, &saved)
            _ = try? terminal.writeAll(Array("\n".utf8))
        }
        _ = try? terminal.writeAll(Array(prompt.utf8))
        let line = try Process.withTerminationSignalsAllowed { try Secret.readLine(from: terminal) }
        if line.withBytes({ $0.byteCount > 0 && $0.byte(at: $0.byteCount - 1) == interrupt }) {
            throw Failure(.wrongPassphrase, "no passphrase: interrupted")
        }
        return line.count == 0 ? nil : line.droppingTrailingNewline()
    }
}
