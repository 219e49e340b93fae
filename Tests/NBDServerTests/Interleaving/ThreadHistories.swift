// SPDX-License-Identifier: Apache-2.0

/// What each thread of a path has done and been told since it began what it is in the middle of; the loop: since the start. It
/// tells what the thread knows.
struct ThreadHistories {
    /// What somebody does at a place where threads may change, or has done there.
    enum Act: UInt64 {
        case begins, takesStep, hears, posts
        case reads, receives, dropsWork
        case beginsToSend, sends, tellsLoop
        case asks, answers
        case isInterrupted
    }

    /// More than there are on any path.
    private static let mostActs = 5000

    private var histories: [Fingerprint]
    private var acts: [(seat: Int, act: Act, detail: UInt64)] = []
    /// How much has been done.
    private(set) var count = 0

    init(seats: Int) { histories = Array(repeating: Fingerprint(), count: seats) }

    subscript(seat: Int) -> Fingerprint {
        get { histories[seat] }
        set { histories[seat] = newValue }
    }

    /// Those of all workers, which are alike.
    var ofWorkers: [Fingerprint] { histories.dropFirst().sorted() }

    /// Adds to what a thread knows.
    mutating func note(_ act: Act, _ detail: UInt64, by seat: Int) {
        count += 1
        precondition(count < Self.mostActs, "a path without end: \(story.suffix(3000))")
        histories[seat].add(act.rawValue << 32 | detail)
        acts.append((seat, act, detail))
    }

    /// Somebody outside does something, while a thread has the turn that knows nothing of it.
    mutating func noteInterruption(during seat: Int) {
        count += 1
        acts.append((seat, .isInterrupted, 0))
    }

    /// Forgets the last act of a thread, which has done nothing.
    mutating func forgetLast(of seat: Int, before: Fingerprint) {
        histories[seat] = before
        acts.removeLast()
        count -= 1
    }

    /// What has happened, for people.
    var story: String {
        acts.map { "\($0.seat == 0 ? "loop" : "worker \($0.seat)") \($0.act) \($0.detail)" }.joined(separator: "\n")
    }
}
