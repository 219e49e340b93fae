// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import Glibc
import SystemPackage

/// Asks a person for a passphrase.
enum Terminal {
    /// Shows `prompt` on the controlling terminal and reads a line with echo off.
    ///
    /// - Returns: nil when there is no terminal.
    /// - Throws: ``OpeningError`` when the person pressed ctrl-C or ctrl-D.
    static func askPassphrase(_ prompt: String, _ termination: Termination) throws(OpeningError) -> Secret? {
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
        let restored = saved
        let cleanUp = termination.begin {
            var restored = restored
            unsafe tcsetattr(terminal.rawValue, TCSAFLUSH, &restored)
            _ = try? terminal.writeAll(Array("\n".utf8))
        }
        defer { termination.end(cleanUp) }
        // What has been said before is what the person should know.
        LineQueue.standardError.drain()
        _ = try? terminal.writeAll(Array(prompt.utf8))
        let line: Secret
        do { line = try Secret.readLine(from: terminal) } catch {
            throw OpeningError(.wrongSecret, "cannot read a passphrase from the terminal: \(error)")
        }
        if line.withBytes({ $0.byteCount > 0 && $0.byte(at: $0.byteCount - 1) == interrupt }) {
            throw OpeningError(.wrongSecret, "no passphrase: interrupted")
        }
        // ctrl-D; an empty line is an empty passphrase.
        guard line.count > 0 else { throw OpeningError(.wrongSecret, "no passphrase was typed") }
        return line.droppingTrailingNewline()
    }
}
