// SPDX-License-Identifier: Apache-2.0

/// Whose work it is.
struct WorkOwner: Hashable, Sendable {
    let peer: Peer
    /// The number of the connection.
    let connection: UInt64
}

/// Where connections have work done that their loop does not wait for.
protocol Workers: Sendable {
    /// Runs `work` soon, on another thread: that of a connection in the order of the calls, peers in turn, and the connections
    /// of a peer in turn.
    /// - Parameter dropped: called in place of `work` when ``drop(_:)`` comes first.
    func run(for owner: WorkOwner, dropped: @escaping @Sendable () -> Void, _ work: @escaping @Sendable () -> Void)

    /// Forgets the work of a connection that has not begun.
    func drop(_ owner: WorkOwner)
}

extension Workers {
    /// Runs work that has nothing to give back when it is dropped.
    func run(for owner: WorkOwner, _ work: @escaping @Sendable () -> Void) { run(for: owner, dropped: {}, work) }
}
