// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Tells when nobody is left who may have found a place of the file in tables that have changed since.
///
/// Who looks up a place and then reads or writes it does so between ``enter()`` and ``leave(_:)``, and holds no lock. A place
/// that no table refers to any more is used for something else only when the epoch of that time ``hasPassed(_:)``.
/// The scheme is that of epoch-based reclamation: there is at most one epoch besides the present one that somebody is in.
final class AccessEpochs: Sendable {
    private let present = Atomic<UInt64>(0)
    private let countOfEven = Atomic<Int>(0)
    private let countOfOdd = Atomic<Int>(0)

    /// The present epoch.
    var current: UInt64 { present.load(ordering: .sequentiallyConsistent) }

    /// - Returns: the epoch, for ``leave(_:)``.
    func enter() -> UInt64 {
        while true {
            let epoch = current
            add(1, to: epoch)
            // Otherwise it may be over, and nobody has waited for this thread.
            if current == epoch { return epoch }
            add(-1, to: epoch)
        }
    }

    /// Ends what ``enter()`` began.
    func leave(_ epoch: UInt64) { add(-1, to: epoch) }

    /// Goes on to later epochs as far as nobody is left in earlier ones. One thread at a time calls this.
    func advance() {
        for _ in 0..<2 {
            let epoch = current
            guard count(of: epoch + 1) == 0 else { return }
            present.store(epoch + 1, ordering: .sequentiallyConsistent)
        }
    }

    /// Have all left who were in this epoch, or in one before it?
    func hasPassed(_ epoch: UInt64) -> Bool { current >= epoch + 2 }

    private func add(_ number: Int, to epoch: UInt64) {
        if epoch.isMultiple(of: 2) {
            countOfEven.add(number, ordering: .sequentiallyConsistent)
        } else {
            countOfOdd.add(number, ordering: .sequentiallyConsistent)
        }
    }

    private func count(of epoch: UInt64) -> Int {
        epoch.isMultiple(of: 2)
            ? countOfEven.load(ordering: .sequentiallyConsistent)
            : countOfOdd.load(ordering: .sequentiallyConsistent)
    }
}
