// SPDX-License-Identifier: Apache-2.0

/// Words of commands that people paste into a shell.
package enum ShellText {
    /// A file name for a shell line; one that looks like an option is none behind its directory.
    package static func fileArgument(_ path: String) -> String { quoted(path.hasPrefix("-") ? "./\(path)" : path) }

    /// In quotes that it cannot end, so that a name of a stranger's choice is no command; as it is where nothing in it means
    /// anything to the shell.
    package static func quoted(_ text: String) -> String {
        let plain = text.utf8.allSatisfy { byte in isAlphanumeric(byte) || "-._/:=,+@%".utf8.contains(byte) }
        return plain && !text.isEmpty ? text : "'\(text.replacing("'", with: "'\\''"))'"
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }
}
