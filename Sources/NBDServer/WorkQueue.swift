// SPDX-License-Identifier: Apache-2.0

/// Work that waits for a worker. Peers have their turns, and within that of a peer its connections have theirs: more
/// connections give nobody more of the workers.
struct WorkQueue {
    /// A piece of work.
    struct Job: Sendable {
        let run: @Sendable () -> Void
        /// Called in place of ``run`` when the work is not wanted any more.
        let dropped: @Sendable () -> Void
    }

    /// The work of a peer, by connection.
    private struct Share {
        var lines: [UInt64: [Job]] = [:]
        /// Connections that have work waiting, in the order in which they get their next turn.
        var turns: [UInt64] = []

        mutating func next() -> Job? {
            guard !turns.isEmpty else { return nil }
            let connection = turns.removeFirst()
            guard let job = lines[connection]?.removeFirst() else { return nil }
            if lines[connection]?.isEmpty == true { lines[connection] = nil } else { turns.append(connection) }
            return job
        }
    }

    private var shares: [Peer: Share] = [:]
    /// Peers that have work waiting, in the order in which they get their next turn.
    private var turns: [Peer] = []
    /// How many pieces of work wait.
    private(set) var count = 0

    /// Puts a piece of work at the end of its connection's line.
    mutating func add(_ job: Job, of owner: WorkOwner) {
        count += 1
        if shares[owner.peer] == nil { turns.append(owner.peer) }
        if shares[owner.peer]?.lines[owner.connection] == nil {
            shares[owner.peer, default: Share()].turns.append(owner.connection)
        }
        shares[owner.peer, default: Share()].lines[owner.connection, default: []].append(job)
    }

    /// Takes the work whose turn it is; nil when there is none.
    mutating func next() -> Job? {
        guard !turns.isEmpty else { return nil }
        let peer = turns.removeFirst()
        guard let job = shares[peer]?.next() else { return nil }
        count -= 1
        if shares[peer]?.turns.isEmpty == true { shares[peer] = nil } else { turns.append(peer) }
        return job
    }

    /// Takes all work of a connection out of its line.
    mutating func drop(_ owner: WorkOwner) -> [Job] {
        guard let jobs = shares[owner.peer]?.lines.removeValue(forKey: owner.connection) else { return [] }
        count -= jobs.count
        shares[owner.peer]?.turns.removeAll { $0 == owner.connection }
        if shares[owner.peer]?.turns.isEmpty == true {
            shares[owner.peer] = nil
            turns.removeAll { $0 == owner.peer }
        }
        return jobs
    }
}
