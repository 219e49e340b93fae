// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc

/// Threads of the system. Those of Dispatch are for work that ends: queues whose work never does use up its own.
enum WorkerThread {
    /// What a thread does.
    private final class Body {
        let name: String
        let run: @Sendable () -> Void

        init(_ name: String, _ run: @escaping @Sendable () -> Void) { (self.name, self.run) = (name, run) }
    }

    /// Starts a thread that runs `body` and ends; nobody waits for it. It takes no signal.
    ///
    /// - Parameter name: the system has 15 bytes of it.
    /// - Returns: false when the system has no thread to give: RLIMIT_NPROC, or no memory.
    static func start(named name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
        var attributes = pthread_attr_t()
        guard unsafe pthread_attr_init(&attributes) == 0 else { return false }
        defer { unsafe pthread_attr_destroy(&attributes) }
        unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        // The thread inherits the mask: no signal comes between its start and a change of its own.
        var all = sigset_t()
        var before = sigset_t()
        unsafe sigfillset(&all)
        guard unsafe pthread_sigmask(SIG_BLOCK, &all, &before) == 0 else { return false }
        defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
        let context = unsafe Unmanaged.passRetained(Body(name, body))
        var thread = pthread_t()
        let result = unsafe pthread_create(
            &thread, &attributes,
            { context in
                guard let context = unsafe context else { return nil }
                let body = unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue()
                unsafe linux_name_thread(body.name)
                body.run()
                return nil
            }, context.toOpaque())
        guard result == 0 else {
            unsafe context.release()
            return false
        }
        return true
    }
}
