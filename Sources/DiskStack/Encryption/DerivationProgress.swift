// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch

/// Says what is being tried when a key derivation takes more than a second.
final class DerivationProgress: Sendable {
    private let current = Locked((number: 0, isOver: false))
    private let log: OpeningLog

    init(log: OpeningLog) { self.log = log }

    /// A derivation starts, and the one before is over.
    func begin(_ what: String) {
        let number = current.withLock { current in
            current.number += 1
            return current.number
        }
        DispatchQueue.global().asyncAfter(deadline: .now() + .seconds(1)) { [self] in
            guard current.withLock({ $0.number == number && !$0.isOver }) else { return }
            log.notice("trying \(what) …")
        }
    }

    /// Nothing is being derived any more.
    func end() { current.withLock { $0.isOver = true } }
}
