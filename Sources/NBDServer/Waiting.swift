// SPDX-License-Identifier: Apache-2.0

/// What keeps a connection from going on. Nothing: its client has the word.
struct Waiting: OptionSet {
    let rawValue: UInt8

    /// The client does not take what is to be sent: it is told when the socket has room.
    static let room = Waiting(rawValue: 1)
    /// A complete message waits until others of the loop have had their turn, which work for the loop then tells. Nothing
    /// more is received before it is served.
    static let turn = Waiting(rawValue: 2)
    /// A complete message waits for workers, each of which tells the loop when it has finished. Nothing more is received.
    static let workers = Waiting(rawValue: 4)
    /// A worker is sending, and tells the loop when it has finished: nothing is received or sent before.
    static let right = Waiting(rawValue: 8)

    /// What is over when the connection is called again, and waited for anew if it is not.
    static let toBeResumed: Waiting = [.turn, .workers, .right]

    /// For a report.
    var names: [String] {
        [
            (Waiting.room, "the client to take replies"), (.turn, "its turn"), (.workers, "workers"),
            (.right, "a worker that sends"),
        ]
        .filter { contains($0.0) }.map(\.1)
    }
}
