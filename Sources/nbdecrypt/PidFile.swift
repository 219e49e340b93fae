// SPDX-License-Identifier: Apache-2.0

import SystemPackage

/// The file that tells others the process id of the server, and that it listens.
enum PidFile {
    /// The longest file that may be one, in bytes.
    private static let maximumLength = 32

    /// Writes the id to a new file, or over an old one.
    /// - Throws: ``Failure`` when it cannot be written, or the file holds anything but an id.
    static func write(_ path: String) throws {
        let file: FileDescriptor
        do {
            file = try FileDescriptor.open(
                FilePath(path), .readWrite, options: [.create, .closeOnExec, .nonBlocking],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
        } catch {
            throw Failure(
                .cannotOpen, "cannot make the pid file \(path): \(error); check that its directory exists and is yours")
        }
        try file.closeAfter {
            guard isPidFile(file) else {
                throw Failure(
                    .usage, "\(path) holds something else than a process id; name another file with --pid-file")
            }
            do {
                try file.resize(to: 0)
                _ = try file.writeAll(toAbsoluteOffset: 0, Array("\(Process.identifier)\n".utf8))
            } catch {
                throw Failure(.cannotOpen, "cannot write the pid file \(path): \(error)")
            }
        }
    }

    static func remove(_ path: String) { Process.removeFile(path) }

    private static func isPidFile(_ file: FileDescriptor) -> Bool {
        guard let contents = Process.read(file, atMost: maximumLength + 1), contents.count <= maximumLength else {
            return false
        }
        return contents.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || $0 == UInt8(ascii: "\n") }
    }
}
