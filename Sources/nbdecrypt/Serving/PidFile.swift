// SPDX-License-Identifier: Apache-2.0

import BlockIO
import SystemPackage

/// The file that tells others the process id of the server, and that it listens: while it is there, so is the server.
///
/// It appears at once and whole, under a name that led nowhere before, and is locked as long as the server lives. So a file
/// that nobody has locked is that of a server that has died.
final class PidFile: Sendable {
    /// The longest file that may be one, in bytes.
    private static let maximumLength = 32

    private let path: String
    /// Open as long as the server lives.
    private let file: FileDescriptor
    private let identity: Process.FileIdentity

    /// Removes what a server that has died has left; early, because whoever waits for the file would take it for the new one.
    /// - Throws: ``Failure`` when the server lives, when there is anything else, or when no file can be made there.
    static func makeWay(_ path: String) throws(Failure) {
        let file: FileDescriptor
        do {
            file = try FileDescriptor.open(FilePath(path), .readOnly, options: [.noFollow, .closeOnExec, .nonBlocking])
        } catch Errno.noSuchFileOrDirectory {
            return try checkDirectory(of: path)
        } catch Errno.tooManySymbolicLinkLevels {
            throw Failure(
                .usage, "the pid file \(path) is a symbolic link, and is not written through; name what it stands for")
        } catch {
            throw cannotMake(path, error)
        }
        defer { try? file.close() }
        guard let identity = Process.identity(ofRegular: file), let id = processIdentifier(file) else {
            throw Failure(.usage, "\(path) holds something else than a process id; name another file with --pid-file")
        }
        guard !Process.isLocked(file) else {
            throw Failure(
                .cannotOpen,
                "the pid file \(path) is that of a server that runs (process \(id)); stop that one, or name another file "
                    + "with --pid-file")
        }
        if let error = Process.removeFile(path, ifIt: identity) { throw cannotMake(path, error) }
    }

    /// Tells that the server listens.
    /// - Throws: ``Failure``.
    init(_ path: String) throws(Failure) {
        self.path = path
        let draft = "\(path).\(String(UInt64.random(in: 0 ... .max), radix: 16))"
        do {
            file = try FileDescriptor.open(
                FilePath(draft), .readWrite, options: [.create, .exclusiveCreate, .noFollow, .closeOnExec],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
        } catch { throw Self.cannotMake(path, error) }
        do {
            guard let identity = Process.identity(ofRegular: file) else { throw Errno.ioError }
            self.identity = identity
            try Process.write(Array("\(Process.identifier)\n".utf8), to: file)
            Process.lock(file)
            // Somebody may have been faster.
            try Self.makeWay(path)
            if let error = Process.rename(draft, to: path) { throw error }
        } catch {
            Process.removeFile(draft)
            try? file.close()
            throw error as? Failure ?? Self.cannotMake(path, error)
        }
    }

    /// Removes it, unless there is another's by now.
    func remove() { _ = Process.removeFile(path, ifIt: identity) }

    private static func checkDirectory(of path: String) throws(Failure) {
        let directory = FilePath(path).removingLastComponent()
        if let error = Process.cannotMakeFiles(in: directory.isEmpty ? "." : directory.string) {
            throw cannotMake(path, error)
        }
    }

    private static func cannotMake(_ path: String, _ error: any Error) -> Failure {
        Failure(.cannotOpen, "cannot make the pid file \(path): \(error); check that its directory exists and is yours")
    }

    /// "" in a file that is empty; nil when it holds anything else than an id.
    private static func processIdentifier(_ file: FileDescriptor) -> String? {
        guard let contents = Process.read(file, atMost: maximumLength + 1), contents.count <= maximumLength else {
            return nil
        }
        let digits = contents.filter { $0 != UInt8(ascii: "\n") }
        guard digits.allSatisfy((UInt8(ascii: "0")...UInt8(ascii: "9")).contains) else { return nil }
        return String(decoding: digits, as: UTF8.self)
    }
}
