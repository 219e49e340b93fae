// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// Where an image is: its path, for people, and its directory, held open.
///
/// What an image names is looked for from the open directory: whoever renames or replaces directories meanwhile does not
/// change which one it is.
public struct ImagePlace: Sendable {
    /// As found; relative names are shown with it.
    public let path: FilePath
    let directory: Directory

    /// A directory that stays open as long as it is needed.
    final class Directory: Sendable {
        let descriptor: FileDescriptor

        init(_ descriptor: FileDescriptor) { self.descriptor = descriptor }

        deinit { try? descriptor.close() }
    }

    /// The place of an image that the caller names.
    /// - Throws: ``FormatError`` when its directory cannot be opened.
    public init(_ path: FilePath) throws(FormatError) {
        let parent = path.removingLastComponent()
        do {
            let descriptor = try FileDescriptor.open(
                parent.isEmpty ? "." : parent, .readOnly, options: [.directory, .closeOnExec])
            self.init(path: path, directory: Directory(descriptor))
        } catch {
            throw .unreadable("the directory of the image cannot be opened: \(error)")
        }
    }

    private init(path: FilePath, directory: Directory) {
        self.path = path
        self.directory = directory
    }

    /// The place of something that was found from here.
    ///
    /// - Parameters:
    ///   - name: from here on; an absolute one starts anew.
    ///   - isBeneath: no link may lead out of the directory.
    /// - Returns: nil when its directory has gone meanwhile.
    func appending(_ name: FilePath, path: FilePath, isBeneath: Bool) -> ImagePlace? {
        let parent = name.removingLastComponent()
        guard !parent.isEmpty else { return ImagePlace(path: path, directory: directory) }
        let found = unsafe parent.withPlatformString { parent in
            unsafe linux_find(directory.descriptor.rawValue, parent, isBeneath)
        }
        return found < 0 ? nil : ImagePlace(path: path, directory: Directory(FileDescriptor(rawValue: found)))
    }
}
