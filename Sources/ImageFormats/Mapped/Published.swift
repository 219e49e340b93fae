// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// An object that any thread uses without a lock, while one thread at a time puts another in its place.
///
/// Who uses it is in one of the ``AccessEpochs`` meanwhile; see ``replace(by:)``.
@safe final class Published<Value: AnyObject & Sendable>: Sendable {
    private let present: Atomic<Unmanaged<Value>>

    /// The object at first.
    init(_ value: Value) { unsafe present = Atomic(Unmanaged.passRetained(value)) }

    deinit { unsafe present.load(ordering: .acquiring).release() }

    /// Calls `body` with the present object. The caller is in an epoch, and does not leave it meanwhile.
    @inline(__always)
    func use<Result>(_ body: (Value) -> Result) -> Result {
        unsafe present.load(ordering: .sequentiallyConsistent)._withUnsafeGuaranteedRef { body($0) }
    }

    /// Puts another object in its place. One thread at a time calls this.
    ///
    /// - Returns: the one before, which the caller keeps until the epoch that is present afterwards has passed.
    func replace(by value: Value) -> Value {
        unsafe present.exchange(Unmanaged.passRetained(value), ordering: .sequentiallyConsistent).takeRetainedValue()
    }
}
