// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import BlockIO
import DiskStack
import SystemPackage

/// A file that has its name only when it is complete; until then it is called `NAME.partial`.
final class NewFile: Sendable {
    /// The name that it gets.
    let path: String
    /// Where it is until then; absolute, so that no program takes it for something else.
    let partialPath: String
    /// By whichever of its names it is called.
    let identity: Process.FileIdentity
    /// Open for reading and writing, for programs that are given it instead of a name: what is removed while they run does
    /// not come back.
    let descriptor: FileDescriptor

    /// What the file of this name is called until it is complete.
    static func partialPath(_ path: String) -> String { Process.absolutePath(path + suffix) }

    /// How long a name in a directory may be on the file systems of Linux, in bytes.
    static let maximumNameLength = 255

    /// What is added to the name until it is complete.
    static let suffix = ".partial"

    /// Refuses a name under which there is something, or that no file can have.
    ///
    /// - Parameter old: the image that is copied. It is said when the name is one of its files.
    /// - Throws: ``Failure``.
    static func check(_ path: String, against old: OpenImage) throws(Failure) {
        if let identity = try? ImagePlace(FilePath(path)).identity(),
            let file = old.files.first(where: { $0.identity == .file(identity) })
        {
            let which =
                path == file.name ? "\(path) is a file of the old image" : "\(path) and \(file.name) are the same file"
            throw Failure(.usage, "\(which), which is only read; name a new file")
        }
        try checkIsNew(path)
    }

    /// Refuses, of an option, what names no file.
    ///
    /// - Parameter use: what standard output has instead.
    static func checkName(_ path: String?, _ option: String, standardOutput use: String) throws(ValidationError) {
        guard path?.isEmpty != true else { throw ValidationError("\(option) takes the name of a file.") }
        guard path != "-" else {
            throw ValidationError(
                "\(option) takes the name of a file: standard output has \(use). Write ./- for a file of that name.")
        }
    }

    /// Refuses a name under which there is something, or under which no file can be made.
    /// - Throws: ``Failure``.
    static func checkIsNew(_ path: String) throws(Failure) {
        let length = (FilePath(path).lastComponent?.string ?? "").utf8.count + suffix.utf8.count
        guard length <= maximumNameLength else {
            throw Failure(
                .usage,
                "\(path): with \(suffix) behind it, which it has until it is complete, the name has \(length) bytes; a file "
                    + "system takes \(maximumNameLength): name a shorter one")
        }
        guard !Process.exists(path) else {
            throw Failure(
                .cannotWrite,
                "\(path) exists, and nothing is overwritten; name a new file\(Process.isRegular(path) ? ", or remove that one" : "")"
            )
        }
        let place = Process.directory(of: path)
        // What is not UTF-8 in it would become another name.
        guard let directory = String(validating: place) else {
            throw Failure(
                .usage,
                "\(path): the name of its directory is not text in UTF-8 (\(ShownText.printable(place.string, maximumLength: 255))); "
                    + "rename that, or name another place")
        }
        if let error = Process.cannotMakeFiles(in: directory) {
            throw Failure(
                .cannotWrite,
                "\(path): no file can be made in \(directory): \(error); "
                    + (error == .noSuchFileOrDirectory ? "make that directory" : "name another place"))
        }
    }

    /// Makes a file that holds a text, all of it or none, also when a signal ends the program meanwhile.
    /// - Throws: ``Failure`` when there is something under that name, or when it cannot be written.
    static func write(_ text: String, to path: String, _ termination: Termination) throws(Failure) {
        try checkIsNew(path)
        let (file, cleanUp) = try termination.begin(
            making: { () throws(Failure) in try NewFile(path, replacesPartial: false) }, { $0.remove() })
        do throws(Failure) {
            do throws(Errno) { try Process.write(Array("\(text)\n".utf8), to: file.descriptor) } catch {
                throw Failure(.cannotWrite, "\(path).partial cannot be written: \(error)")
            }
            try file.finish()
        } catch {
            termination.end(cleanUp)
            throw error
        }
        termination.keep(cleanUp)
    }

    /// Makes an empty file, for this user alone.
    ///
    /// - Parameter replacesPartial: what is under its name now is what is left of a copy, and nobody is making it.
    /// - Throws: ``Failure``.
    init(_ path: String, replacesPartial: Bool) throws(Failure) {
        self.path = path
        partialPath = Self.partialPath(path)
        if replacesPartial { Process.removeFile(partialPath) }
        do {
            descriptor = try FileDescriptor.open(
                FilePath(partialPath), .readWrite, options: [.create, .exclusiveCreate, .closeOnExec],
                permissions: [.ownerReadWrite])
        } catch Errno.fileExists {
            throw Failure(
                .cannotWrite,
                "\(path).partial exists: a copy that was broken off, or one that is being made; when no other program makes "
                    + "one, remove it: rm \(ShellText.fileArgument("\(path).partial"))")
        } catch {
            throw Failure(.cannotWrite, "\(path).partial cannot be made: \(error)")
        }
        guard let identity = Process.identity(ofRegular: descriptor) else {
            try? descriptor.close()
            throw Failure(.cannotWrite, "\(path).partial is no regular file")
        }
        self.identity = identity
    }

    deinit { try? descriptor.close() }

    /// Makes it so long; what is new reads as zeros and takes no space.
    /// - Throws: ``Failure``.
    func grow(to size: UInt64) throws(Failure) {
        do {
            try FileDevice(path: FilePath(partialPath), excludesWriters: false, isWritable: true).grow(to: size)
        } catch { throw Failure(.cannotWrite, "\(path).partial cannot be made \(size) bytes long: \(error)") }
    }

    /// Gives it its name.
    /// - Throws: ``Failure`` when there is something under that name now, or when it is another file.
    func finish() throws(Failure) {
        switch Process.rename(partialPath, toNew: Process.absolutePath(path)) {
        case nil: return
        case .fileExists?:
            throw Failure(.cannotWrite, "\(path) has been made meanwhile by somebody else, and nothing is overwritten")
        case let error?: throw Failure(.cannotWrite, "\(path).partial cannot be renamed to \(path): \(error)")
        }
    }

    /// Removes it, by whichever of its names it has. Afterwards it does nothing.
    func remove() {
        for path in [partialPath, Process.absolutePath(path)] { _ = Process.removeFile(path, ifIt: identity) }
    }
}
