// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// A file that an image names: a backing file, an external data file.
public struct FileReference: Equatable, Sendable {
    /// As the image has it.
    public let bytes: [UInt8]
    /// For messages: printable, and not too long.
    public let shown: String

    /// - Parameter shown: `bytes` as text that is safe to show.
    public init(bytes: [UInt8], shown: String) {
        self.bytes = bytes
        self.shown = shown
    }
}

/// Which files an image may make the program open.
///
/// An image is hostile input: a name in its header could be that of any file of the user who runs the program.
public struct FileReferences: Sendable {
    /// What is opened without being named by the caller.
    public enum Policy: String, CaseIterable, Sendable {
        /// Nothing.
        case deny
        /// Regular files at or below the directory of the image that names them; no link may lead out of it.
        case sameDirectory = "same-directory"
        /// Any regular file or block device.
        case allow
    }

    private let policy: Policy
    /// Absolute paths without "." and "..".
    private let allowed: [FilePath]

    /// - Parameter allowed: absolute paths that may be opened whatever the policy is.
    public init(_ policy: Policy, allowed: [FilePath] = []) {
        self.policy = policy
        self.allowed = allowed.map { $0.lexicallyNormalized() }
    }

    /// Opens what an image names.
    ///
    /// - Parameters:
    ///   - what: what the image says it is, e.g. "backing file".
    ///   - image: where the image is; relative names start in its directory.
    ///   - excludesWriters: as for ``FileDevice``.
    /// - Returns: the file, and its place for what it names in turn.
    /// - Throws: ``FormatError``: one sentence with the name and what to do.
    public func open(
        _ reference: FileReference, _ what: String, of image: ImagePlace, excludesWriters: Bool
    ) throws(FormatError) -> (file: FileDevice, place: ImagePlace) {
        let name = "the \(what) (\(reference.shown))"
        var relative = try path(of: reference, name)
        var path = relative.isAbsolute ? relative : image.path.removingLastComponent().appending(relative.components)
        let isListed = allowed.contains(Self.absolute(path))
        if isListed {
            // What is listed is what is opened: with links, a way through ".." may end elsewhere.
            path = Self.absolute(path)
            relative = path
        }
        guard isListed || policy != .deny else {
            throw .unsupported(
                "\(name) is not opened, as --references deny says; to open it, add \(Self.permission(path))")
        }
        let isBeneath = !isListed && policy == .sameDirectory
        guard !isBeneath || relative.isRelative else {
            throw .unsupported(
                "\(name) has an absolute name, which could be any file of this machine; if the image is to be trusted, add "
                    + Self.permission(path))
        }
        let found = try find(relative, from: image, isBeneath: isBeneath, name, path)
        defer { try? found.close() }
        let file = try open(found, isBeneath: isBeneath, name, excludesWriters: excludesWriters)
        guard let place = image.appending(relative, path: path, isBeneath: isBeneath) else {
            throw .unsupported("\(name) leads out of the directory of the image, or is being moved; try again")
        }
        return (file, place)
    }

    /// What to type so that `path` may be opened.
    private static func permission(_ path: FilePath) -> String {
        // The name is the image's choice: between quotes that it cannot end, it is no command.
        "--allow-reference '\(absolute(path).string.replacing("'", with: "'\\''"))'"
    }

    private static func absolute(_ path: FilePath) -> FilePath {
        guard path.isRelative, let directory = unsafe getcwd(nil, 0) else { return path.lexicallyNormalized() }
        defer { unsafe free(directory) }
        return FilePath(unsafe String(cString: directory)).appending(path.components).lexicallyNormalized()
    }

    /// A name that means a file to QEMU, as a path.
    private func path(of reference: FileReference, _ name: String) throws(FormatError) -> FilePath {
        var bytes = reference.bytes[...]
        let convert = "make a copy that stands alone with qemu-img convert"
        if bytes.starts(with: Array("json:".utf8)) {
            throw .unsupported("\(name) is a description in JSON, which is never opened; \(convert)")
        }
        // To QEMU, anything before a colon is a protocol if no slash comes before.
        if let colon = bytes.firstIndex(of: UInt8(ascii: ":")), !bytes[..<colon].contains(UInt8(ascii: "/")) {
            guard bytes[..<colon].elementsEqual("file".utf8), !bytes[colon...].starts(with: Array("://".utf8)) else {
                throw .unsupported("\(name) is not a file but reached by a protocol, which is never opened; \(convert)")
            }
            bytes = bytes[(colon + 1)...]
            guard bytes.isEmpty || bytes.first == UInt8(ascii: "/") else {
                throw .unsupported(
                    "\(name) is relative to the directory in which QEMU runs, as names with \"file:\" are; "
                        + "name it without that with qemu-img rebase -u")
            }
        }
        guard !bytes.isEmpty, !bytes.contains(0) else {
            throw .unsupported("\(name) has no usable name: it is empty or has a NUL byte; \(convert)")
        }
        let text = String(decoding: bytes, as: UTF8.self)
        let rename = "rename the file and change the name with qemu-img rebase -u"
        guard text.utf8.elementsEqual(bytes) else {
            throw .unsupported("\(name) has a name that is not UTF-8; \(rename)")
        }
        // The path is part of messages and of what clients are told.
        guard reference.shown.hasSuffix(text) else {
            throw .unsupported("\(name) has a name that cannot be shown, or a very long one; \(rename)")
        }
        return FilePath(text)
    }

    private func find(
        _ relative: FilePath, from image: ImagePlace, isBeneath: Bool, _ name: String, _ path: FilePath
    ) throws(FormatError) -> FileDescriptor {
        let found = unsafe relative.withPlatformString { relative in
            unsafe linux_find(image.directory.descriptor.rawValue, relative, isBeneath)
        }
        guard found >= 0 else {
            let error = Errno(rawValue: errno)
            switch error {
            case .improperLink where isBeneath:
                throw .unsupported(
                    "\(name) leads out of the directory of the image; if the image is to be trusted, add "
                        + Self.permission(path))
            case .tooManySymbolicLinkLevels:
                throw .unsupported("\(name) is not opened: it is a link of the system, or a loop of links")
            case .noSuchFileOrDirectory:
                throw .unreadable(
                    "\(name) is not there: looked for \(path); put it there, or change the name with "
                        + "qemu-img rebase -u")
            case .noFunction:
                throw .unsupported(
                    "\(name) is not opened: this needs Linux 5.6 or later; \(Self.permission(path)) does not help")
            default:
                throw .unreadable("\(name) cannot be opened: \(error)")
            }
        }
        return FileDescriptor(rawValue: found)
    }

    private func open(
        _ found: FileDescriptor, isBeneath: Bool, _ name: String, excludesWriters: Bool
    ) throws(FormatError) -> FileDevice {
        var status = stat()
        guard unsafe fstat(found.rawValue, &status) == 0 else {
            throw .unreadable("\(name) cannot be examined: \(Errno(rawValue: errno))")
        }
        // What is found is what is opened: nobody can put something else in its place meanwhile.
        let type = status.st_mode & S_IFMT
        guard type == S_IFREG || type == S_IFBLK && !isBeneath else {
            throw .unsupported("\(name) is not a regular file, and is not opened")
        }
        let descriptor = linux_open_found(found.rawValue)
        guard descriptor >= 0 else {
            throw .unreadable("\(name) cannot be opened: \(Errno(rawValue: errno)); run this as a user who may read it")
        }
        do { return try FileDevice(FileDescriptor(rawValue: descriptor), excludesWriters: excludesWriters) } catch {
            throw error.naming(name)
        }
    }
}
