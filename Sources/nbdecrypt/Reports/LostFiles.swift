// SPDX-License-Identifier: Apache-2.0

/// The files of a guest that have lost bytes, as far as it can be told.
struct LostFiles: Encodable {
    /// One of them; or a directory, or what a file system keeps in a file of its own, such as a journal.
    struct File: Encodable {
        /// E.g. "ext4 in partition 1".
        let fileSystem: String
        let inode: UInt64
        /// From the root of the file system; empty for what has no name.
        let paths: [String]
        /// How many bytes are lost.
        let lost: UInt64

        /// For people.
        var line: String {
            let name = paths.isEmpty ? "no name, inode \(inode)" : paths.joined(separator: ", also ")
            return "\(lost) bytes of \(name) (\(fileSystem))"
        }
    }

    var files: [File] = []
    /// Lost bytes of file systems that are in none: free, or tables.
    var bytesInNoFile: UInt64 = 0
    /// Sentences about what could not be told.
    var notes: [String] = []

    mutating func add(_ other: LostFiles) {
        files += other.files
        bytesInNoFile += other.bytesInNoFile
        notes += other.notes
    }

    /// How many files are said on a terminal.
    private static let shownFiles = 20

    /// Names and values for people.
    var lines: [(String, String)] {
        var lines = files.prefix(Self.shownFiles).map { ("lost file", $0.line) }
        let more = files.count - Self.shownFiles
        if more > 0 { lines.append(("lost file", "\(more) more: --json lists all of them")) }
        if bytesInNoFile > 0 {
            lines.append(("lost", "\(bytesInNoFile) bytes of file systems that are in no file: free, or tables"))
        }
        return lines + notes.map { ("lost", $0) }
    }
}
