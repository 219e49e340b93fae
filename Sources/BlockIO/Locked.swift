// SPDX-License-Identifier: Apache-2.0

#if THREAD_SANITIZER
    private import CLinux
#endif
import Synchronization

/// A value that one thread at a time can get at.
///
/// It is a `Mutex`. ThreadSanitizer does not see into that, so a build for it says when one thread gives the value to
/// another.
public struct Locked<Value: ~Copyable>: ~Copyable, Sendable {
    private let mutex: Mutex<Value>

    #if THREAD_SANITIZER
        private let place = linux_tsan_make()

        deinit { linux_tsan_forget(place) }
    #endif

    /// The value at first.
    public init(_ value: consuming sending Value) { mutex = Mutex(value) }

    /// Waits until nobody else has the value, and gives it to `body`.
    public borrowing func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        #if THREAD_SANITIZER
            let place = place
            return try mutex.withLock { (value: inout sending Value) throws(Failure) -> sending Result in
                linux_tsan_acquire(place)
                defer { linux_tsan_release(place) }
                return try body(&value)
            }
        #else
            return try mutex.withLock(body)
        #endif
    }
}
