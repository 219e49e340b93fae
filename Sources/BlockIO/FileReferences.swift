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
        /// Regular files at or below the directory of the image that names them, on the same mount and of the same owner as
        /// that image, none of them hidden by a dot; no link may lead out of it.
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

    /// A file on its way from a name to an open file.
    private struct Candidate {
        /// For messages, e.g. "the backing file (base.qcow2)".
        let called: String
        /// For people, and to be listed.
        let path: FilePath
        /// From the place of the image on, or absolute.
        let name: FilePath
        let scope: ImagePlace.Scope
    }

    /// Opens what an image names, to be read.
    ///
    /// What an image far away names lies beside it, whatever else is allowed: no more is opened on its server, and nothing on
    /// this machine.
    ///
    /// - Parameters:
    ///   - called: for messages, e.g. "the backing file (base.qcow2)".
    ///   - image: the image that names it; relative names start in its directory.
    ///   - opener: of what is far away.
    ///   - access: what is wanted of it; what may be read may be written to.
    ///   - renaming: what to do, besides putting the file there, when it is not; nil for nothing.
    /// - Throws: ``FormatError``: one sentence with the name and what to do.
    public func open(
        _ name: ReferenceName, _ called: String, of image: OpenSource, by opener: SourceOpener, _ access: SourceAccess,
        renaming: String? = nil
    ) throws(FormatError) -> OpenSource {
        switch image.place {
        case .beside(let url):
            let source = try source(name.path, called, beside: url)
            do { return try opener.open(source, access) } catch {
                throw error.naming(called)
            }
        case .directory(let place, let owner):
            let candidate = try candidate(name.path, called, place)
            let found = try find(candidate, from: place, renaming)
            defer { try? found.close() }
            if candidate.scope == .beneath { try check(found, candidate, place, owner) }
            let file = try open(found, candidate, access)
            guard let place = place.appending(candidate.name, path: candidate.path, candidate.scope) else {
                throw .unsupported("\(called) leads out of the directory of the image, or is being moved; try again")
            }
            return OpenSource(file, place)
        }
    }

    /// What the policy makes of a name in an image far away.
    private func source(_ name: FilePath, _ called: String, beside url: SourceURL) throws(FormatError) -> ImageSource {
        guard policy != .deny else {
            throw .unsupported(
                "\(called) is not opened, as \(remedy: .references(policy: policy.rawValue)) says; to open what lies beside the image, leave that out"
            )
        }
        let components = Array(name.components)
        guard name.isRelative, components.count == 1, components[0].kind == .regular, !components[0].isHidden,
            let found = url.beside(components[0].string)
        else {
            throw .unsupported(
                "\(called) does not lie beside the image, which is far away: nothing else that such an image names is opened; "
                    + "copy both to files first, and name the copy")
        }
        return .remote(found)
    }

    /// What the policy makes of a name.
    private func candidate(
        _ name: FilePath, _ called: String, _ place: ImagePlace
    ) throws(FormatError) -> Candidate {
        let path = name.isAbsolute ? name : place.path.removingLastComponent().appending(name.components)
        let listed = Self.absolute(path)
        if allowed.contains(listed) {
            // What is listed is what is opened: with links, a way through ".." may end elsewhere.
            return Candidate(called: called, path: listed, name: listed, scope: .everything)
        }
        switch policy {
        case .deny:
            throw .unsupported(
                "\(called) is not opened, as \(remedy: .references(policy: policy.rawValue)) says; to open it, add \(Self.permission(path))"
            )
        case .allow: return Candidate(called: called, path: path, name: name, scope: .everything)
        case .sameDirectory:
            guard let relative = name.isRelative ? name : place.relative(name) else {
                throw .unsupported(
                    "\(called) has an absolute name that does not lead below the directory of the image, and could be any "
                        + "file of this machine; \(Self.trust(path))")
            }
            return Candidate(called: called, path: path, name: relative, scope: .beneath)
        }
    }

    /// What lets `path` be opened.
    private static func permission(_ path: FilePath) -> Sentence {
        "\(remedy: .allowReference(path: absolute(path).string))"
    }

    private static func trust(_ path: FilePath) -> Sentence {
        "if the image is to be trusted, add \(permission(path))"
    }

    /// The path as any other process can use it.
    public static func absolute(_ path: FilePath) -> FilePath {
        guard path.isRelative, let directory = unsafe getcwd(nil, 0) else { return path.lexicallyNormalized() }
        defer { unsafe free(directory) }
        return unsafe FilePath(platformString: directory).appending(path.components).lexicallyNormalized()
    }

    private func find(
        _ file: Candidate, from place: ImagePlace, _ renaming: String?
    ) throws(FormatError) -> FileDescriptor {
        let found = place.find(file.name, file.scope)
        guard found >= 0 else {
            let error = Errno(rawValue: errno)
            switch error {
            case .improperLink where file.scope == .beneath:
                let why =
                    place.leadsToOtherMount(file.name)
                    ? "lies on another file system than the directory of the image"
                    : "leads out of the directory of the image"
                throw .unsupported("\(file.called) \(why); \(Self.trust(file.path))")
            case .tooManySymbolicLinkLevels:
                throw .unsupported("\(file.called) is not opened: it is a link of the system, or a loop of links")
            case .noSuchFileOrDirectory:
                throw .unreadable(
                    "\(file.called) is not there: looked for \(file.path); put it there"
                        + (renaming.map { ", or \($0)" } ?? ""))
            case .noFunction:
                throw .unsupported(
                    "\(file.called) is not opened: this needs Linux 5.6 or later; \(Self.permission(file.path)) does not help"
                )
            default:
                throw .unreadable("\(file.called) cannot be opened: \(error)")
            }
        }
        return FileDescriptor(rawValue: found)
    }

    /// Whether what was found beneath a directory is the image's to name.
    private func check(
        _ found: FileDescriptor, _ file: Candidate, _ place: ImagePlace, _ owner: UInt32
    ) throws(FormatError) {
        guard let way = place.way(to: found) else {
            throw .unsupported("\(file.called) is being moved; try again")
        }
        if let hidden = (file.name.components + way).first(where: \.isHidden) {
            throw .unsupported(
                "\(file.called) is hidden, by the dot at the start of \(ShownText.quoted(hidden.string)); "
                    + Self.trust(file.path))
        }
        var named = stat()
        guard unsafe fstat(found.rawValue, &named) == 0 else {
            throw .unreadable("\(file.called) cannot be examined: \(Errno(rawValue: errno))")
        }
        guard named.st_uid == owner else {
            throw .unsupported(
                "\(file.called) belongs to another user (\(named.st_uid)) than the image that names it "
                    + "(\(owner)); \(Self.trust(file.path))")
        }
    }

    private func open(
        _ found: FileDescriptor, _ file: Candidate, _ access: SourceAccess
    ) throws(FormatError) -> FileDevice {
        var status = stat()
        guard unsafe fstat(found.rawValue, &status) == 0 else {
            throw .unreadable("\(file.called) cannot be examined: \(Errno(rawValue: errno))")
        }
        // What is found is what is opened: nobody can put something else in its place meanwhile.
        let type = status.st_mode & S_IFMT
        guard type == S_IFREG || type == S_IFBLK && file.scope == .everything else {
            throw .unsupported("\(file.called) is not a regular file, and is not opened")
        }
        let descriptor = linux_open_found(found.rawValue, access.isWritable)
        guard descriptor >= 0 else {
            let error = Errno(rawValue: errno)
            let advice: Sentence =
                access.isWritable
                ? "run this as a user who may write to it, or without \(remedy: .writable)"
                : "run this as a user who may read it"
            throw .unreadable("\(file.called) cannot be opened: \(error); \(advice)")
        }
        do throws(FormatError) {
            return try FileDevice(
                FileDescriptor(rawValue: descriptor), excludesWriters: access.excludesWriters,
                isWritable: access.isWritable, allowsUnlocked: access.allowsUnlocked)
        } catch {
            throw error.naming(file.called)
        }
    }
}

extension FilePath.Component {
    /// Does it begin with a dot, and is it a name?
    fileprivate var isHidden: Bool { kind == .regular && string.hasPrefix(".") }
}
