// SPDX-License-Identifier: Apache-2.0

import CLinux
import SystemPackage

/// The locks by which QEMU keeps an image from being written by one process and read by another.
///
/// Each right is a byte of the image file, locked shared while somebody has the right, and another 100 bytes further on,
/// locked while somebody does not grant it to others. A right may be taken when nobody holds its second byte, and denied
/// when nobody holds its first. Locks end with the open file.
/// Source: QEMU's block/file-posix.c, `raw_apply_lock_bytes`, `raw_check_lock_bytes`.
enum ImageLock {
    private static let consistentRead: Int = 100
    private static let write: Int = 101
    private static let resize: Int = 103
    private static let denied: Int = 100

    /// Declares a reader who tolerates other readers but no writer.
    ///
    /// - Returns: false when somebody writes to the image now. True also where the file system knows no locks.
    static func admitReader(_ descriptor: FileDescriptor) -> Bool {
        admit(
            descriptor, taking: [consistentRead, write + denied, resize + denied],
            unless: [consistentRead + denied, write, resize])
    }

    /// Declares the only writer, who tolerates readers that tolerate one.
    ///
    /// - Returns: false when somebody else writes to the image now, or does not want it to change. True also where the
    ///   file system knows no locks.
    static func admitWriter(_ descriptor: FileDescriptor) -> Bool {
        admit(
            descriptor, taking: [consistentRead, write, resize, write + denied, resize + denied],
            unless: [consistentRead + denied, write, write + denied, resize, resize + denied])
    }

    private static func admit(_ descriptor: FileDescriptor, taking rights: [Int], unless held: [Int]) -> Bool {
        // First take, then look: of two who come at the same time, at least one sees the other.
        for byte in rights {
            guard linux_lock_byte(descriptor.rawValue, byte) == 0 else { return true }
        }
        return !held.contains { linux_is_byte_locked(descriptor.rawValue, $0) == 1 }
    }
}
