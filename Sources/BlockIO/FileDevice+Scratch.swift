// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

extension FileDevice {
    /// Makes a file without a name, which nobody else can open and which is gone with the device: empty, writable, and as
    /// large as it is made by ``grow(to:)``.
    ///
    /// - Parameter directory: a directory; the file is on its file system.
    /// - Throws: ``FormatError`` with code `unreadable` when none can be made there.
    public static func scratch(in directory: FilePath) throws(FormatError) -> FileDevice {
        let descriptor = unsafe directory.withPlatformString { unsafe linux_open_scratch($0) }
        guard descriptor >= 0 else {
            throw .unreadable("no scratch file can be made in this directory: \(Errno(rawValue: errno))")
        }
        // A file without a name needs no locks.
        return try FileDevice(FileDescriptor(rawValue: descriptor), excludesWriters: false, isWritable: true)
    }
}
