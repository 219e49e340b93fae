// SPDX-License-Identifier: Apache-2.0

import CSecureHeap

/// The memory in which the cryptographic libraries keep what they make of a key: locked, not dumped, wiped on release.
///
/// A ``Secret`` holds the keys themselves; key schedules and the state of derivations belong to the libraries.
public enum SecureHeap {
    /// False when the system refused to lock the heap (RLIMIT_MEMLOCK), or when it was too small once: key schedules
    /// could reach the swap.
    public static var isLocked: Bool { secure_heap_is_locked() }

    /// Runs `body`, which gives a key to OpenSSL or libgcrypt, so that what they allocate in this thread is protected
    /// and what they leave on the stack is wiped.
    static func use<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        secure_heap_begin()
        defer { secure_heap_end() }
        return try body()
    }

    /// Has the libraries initialised, which must happen before libgcrypt is asked anything.
    static func start() { use {} }
}
