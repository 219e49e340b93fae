// SPDX-License-Identifier: Apache-2.0

/// What waits in the mailbox of a loop: who has put it there, knowing what.
struct LoopMail {
    private var labels: [Fingerprint] = []
    /// How much at the end of it the loop does not know of, when it is broken so.
    private var unheardCount = 0

    var count: Int { labels.count }
    /// Does the loop know of any?
    var isHeard: Bool { labels.count > unheardCount }

    /// The first of it is taken.
    mutating func take() -> Fingerprint { labels.removeFirst() }

    /// So much waits now; what is new is from somebody with this history.
    mutating func note(_ count: Int, from history: Fingerprint, wakesLoop: Bool) {
        if count > labels.count, wakesLoop { unheardCount = 0 }
        while labels.count < count {
            var label = history
            label.add(UInt64(labels.count))
            labels.append(label)
        }
    }

    /// The loop sleeps, and has not looked at what came after these.
    mutating func sleepOver(knowing known: Int) { unheardCount = max(0, labels.count - known) }

    var state: Fingerprint {
        var state = Fingerprint()
        for label in labels { state.add(label) }
        state.add(UInt64(labels.count))
        state.add(UInt64(unheardCount))
        return state
    }
}
