// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// Where an image is: its path, for people, and its directory, held open.
///
/// What an image names is looked for from the open directory: whoever renames or replaces directories meanwhile does not
/// change which one it is. The directory need not be listed: the right to search it is enough.
public struct ImagePlace: Sendable {
    /// As found; relative names are shown with it.
    public let path: FilePath
    private let directory: Directory

    /// Which files may be found from a place.
    enum Scope {
        /// All that are not behind a link of the system, as in /proc.
        case everything
        /// Those at or below the directory, on its own mount; no link may lead out.
        case beneath
    }

    /// A descriptor of O_PATH that stays open as long as it is needed.
    final class Directory: Sendable {
        let descriptor: FileDescriptor

        init(_ descriptor: FileDescriptor) { self.descriptor = descriptor }

        deinit { try? descriptor.close() }
    }

    /// The place of an image that the caller names.
    /// - Throws: ``FormatError`` when its directory cannot be opened.
    public init(_ path: FilePath) throws(FormatError) {
        let parent = path.removingLastComponent()
        let found = unsafe (parent.isEmpty ? "." : parent).withPlatformString { unsafe linux_open_directory($0) }
        guard found >= 0 else {
            throw .unreadable("the directory of the image cannot be opened: \(Errno(rawValue: errno))")
        }
        self.init(path: path, directory: Directory(FileDescriptor(rawValue: found)))
    }

    private init(path: FilePath, directory: Directory) {
        self.path = path
        self.directory = directory
    }

    /// Finds a file by a name that starts here, if it is relative.
    /// - Returns: a descriptor of O_PATH, or -1 with errno; EXDEV for what is out of scope.
    func find(_ name: FilePath, _ scope: Scope) -> CInt {
        unsafe name.withPlatformString { name in
            unsafe linux_find(directory.descriptor.rawValue, name, scope == .beneath, scope == .beneath)
        }
    }

    /// Which file the path of the place itself leads to. It is not opened.
    public func identity() throws(Errno) -> FileDevice.Identity {
        try identity(of: FilePath(root: nil, path.components.suffix(1)))
    }

    /// Which file a name leads to, wherever that is. It is not opened.
    public func identity(of name: FilePath) throws(Errno) -> FileDevice.Identity {
        let found = find(name, .everything)
        guard found >= 0 else { throw Errno(rawValue: errno) }
        defer { close(found) }
        guard let identity = Self.identity(found) else { throw Errno(rawValue: errno) }
        return identity
    }

    /// Does a name lead to what is mounted below the directory, and not out of it?
    func leadsToOtherMount(_ name: FilePath) -> Bool {
        let found = unsafe name.withPlatformString { name in
            unsafe linux_find(directory.descriptor.rawValue, name, true, false)
        }
        if found >= 0 { close(found) }
        return found >= 0
    }

    /// The place of something that was found from here.
    ///
    /// - Parameter name: from here on; an absolute one starts anew.
    /// - Returns: nil when its directory has gone meanwhile.
    func appending(_ name: FilePath, path: FilePath, _ scope: Scope) -> ImagePlace? {
        let parent = name.removingLastComponent()
        guard !parent.isEmpty else { return ImagePlace(path: path, directory: directory) }
        let found = find(parent, scope)
        return found < 0 ? nil : ImagePlace(path: path, directory: Directory(FileDescriptor(rawValue: found)))
    }

    /// An absolute name as one that starts here, when the way that it describes comes through this directory, whatever that is
    /// called there; the last time if it does more than once. Nil when it does not.
    ///
    /// This decides nothing: what the rest of the name leads to is found with ``find(_:_:)``, whose scope decides.
    func relative(_ name: FilePath) -> FilePath? {
        guard let here = Self.identity(directory.descriptor.rawValue) else { return nil }
        var current = unsafe linux_open_directory("/")
        defer { if current >= 0 { close(current) } }
        let components = Array(name.components)
        var start: Int?
        for (index, component) in components.enumerated() {
            // What is mounted when somebody looks for it is left alone: the image shall not choose what is mounted.
            guard current >= 0, !linux_is_automount(current) else { break }
            if Self.identity(current) == here { start = index }
            let next = unsafe FilePath(root: nil, components: component).withPlatformString {
                unsafe linux_find(current, $0, false, false)
            }
            close(current)
            current = next
        }
        return start.map { FilePath(root: nil, components[$0...]) }
    }

    /// The components of the way from here to something that was found beneath, without links; nil when it is there no more.
    func way(to found: FileDescriptor) -> [FilePath.Component]? {
        guard let here = Self.realPath(directory.descriptor), let there = Self.realPath(found),
            there.starts(with: here)
        else { return nil }
        return Array(there.components.dropFirst(here.components.count))
    }

    private static func identity(_ descriptor: CInt) -> FileDevice.Identity? {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { return nil }
        return FileDevice.Identity(status)
    }

    /// The path without links that the system has for an open file.
    private static func realPath(_ descriptor: FileDescriptor) -> FilePath? {
        var bytes = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        // The last byte stays zero.
        let count = unsafe readlink("/proc/self/fd/\(descriptor.rawValue)", &bytes, bytes.count - 1)
        return count > 0 ? FilePath(platformString: bytes) : nil
    }
}
