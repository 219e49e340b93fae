// SPDX-License-Identifier: Apache-2.0

import CLinux
import Synchronization

/// Bytes that must not leak, in pages of their own: locked into memory where the system allows it, left out of core dumps,
/// and wiped on release.
///
/// They do not change once they are made, so any thread may read them. The type has no description and no way to copy its
/// bytes out in one piece. A passphrase or the key of a disk is a `Secret`, which is one of these with what is done with
/// secrets; the keys of the server, which knows nothing of disks, are these alone.
@safe
package final class WipedBytes: @unchecked Sendable {
    /// The length in bytes.
    package let count: Int
    private let pages: UnsafeMutableRawBufferPointer

    /// Makes `count` bytes; `fill` gets them as zeros.
    package init<Failure: Error>(
        count: Int, _ fill: (inout MutableRawSpan) throws(Failure) -> Void
    ) throws(Failure) {
        var length = count
        var isLocked = false
        guard let start = unsafe linux_take_secret_pages(&length, &isLocked) else {
            fatalError("no memory for a secret")
        }
        if !isLocked { Self.noteLockHasFailed() }
        unsafe self.pages = UnsafeMutableRawBufferPointer(start: start, count: length)
        self.count = count
        var span = unsafe MutableRawSpan(_unsafeBytes: pages[..<count])
        try fill(&span)
    }

    deinit { unsafe linux_release_secret_pages(pages.baseAddress, pages.count) }

    /// Gives `body` the bytes to read. They must not be stored anywhere but in others of these.
    package func withBytes<Result, Failure: Error>(
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(pages)[..<count]))
    }

    /// False once the system has refused to lock any of this process (RLIMIT_MEMLOCK): it could reach the swap.
    package static var allAreLocked: Bool { !lockHasFailed.load(ordering: .relaxed) }
    private static let lockHasFailed = Atomic(false)

    /// For memory of the same kind that a library wants to write to.
    package static func noteLockHasFailed() { lockHasFailed.store(true, ordering: .relaxed) }
}
