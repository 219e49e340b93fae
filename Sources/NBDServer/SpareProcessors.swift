// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Counts the loops that are awake and the reads that they share with workers, to tell whether a processor may be idle.
///
/// Workers that wait for disks are not counted. What clients and other programs do is not known: with more threads than processors the system shares them, and
/// nothing is lost but the change of threads.
final class SpareProcessors: Sendable {
    private let busyCount = Atomic(0)
    private let total: Int

    /// - Parameter total: how many processors there are.
    init(total: Int) { self.total = total }

    /// A thread has work to do, whatever the others do.
    func enter() { busyCount.add(1, ordering: .relaxed) }

    /// A thread that was counted has nothing more to do.
    func leave() { busyCount.subtract(1, ordering: .relaxed) }

    /// Is there one for another thread, of a client perhaps?
    var haveSpare: Bool { busyCount.load(ordering: .relaxed) < total }

    /// Counts one more thread if there is a processor for it; ``leave()`` is owed then.
    func take() -> Bool {
        guard busyCount.add(1, ordering: .relaxed).newValue <= total else {
            leave()
            return false
        }
        return true
    }
}
