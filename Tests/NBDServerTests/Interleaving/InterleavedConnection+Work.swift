// SPDX-License-Identifier: Apache-2.0

import TestSupport

@testable import NBDServer
@testable import ServerTestSupport

/// What the parts of a connection on a path do with each other.
extension InterleavedConnection {
    // MARK: Work

    /// Takes work of the connection.
    func enqueue(_ job: WorkQueue.Job) {
        note(.posts)
        works.append(Work(job: job, label: histories[current]))
    }

    /// Drops the work that has not begun.
    func dropWork() {
        place(.dropsWork)
        let dropped = works
        works = []
        for work in dropped { work.job.dropped() }
    }

    func startWork() -> Int {
        guard let seat = idleWorker else { return Self.loopSeat }
        let work = works.removeFirst()
        isBusy[seat] = true
        histories[seat] = work.label
        turns.assign(
            { [self] in
                note(.begins)
                work.job.run()
                isBusy[seat] = false
                noteMail(of: seat)
                histories[seat] = Fingerprint()
                let next = decide(seat)
                current = next
                turns.give(to: next)
            }, to: seat)
        return seat
    }

    func noteMail(of me: Int) {
        guard isWalking, let count = connection?.workCount else { return }
        mail.note(count, from: histories[me], wakesLoop: !isBusy[Self.loopSeat])
    }

    func interrupt() {
        isInterruptionDue = false
        histories.noteInterruption(during: current)
        switch scene.interruption {
        case .stop: connection?.leave()
        case .abort: connection?.abort()
        case .hangUp: client.isGone = true
        case nil: break
        }
        mail.note(connection?.workCount ?? 0, from: Fingerprint(), wakesLoop: true)
    }

    // MARK: What is shared

    func ask(_ call: WatchedRight.Call, _ body: () -> Bool) -> Bool {
        place(.asks, call.rawValue)
        if call == .giveBackFromWorker || call == .handToLoop { isUsingSocket.remove(current) }
        let answer = body()
        if call == .takeForWorker, answer { isUsingSocket.insert(current) }
        note(.answers, answer ? 1 : 0)
        // What a worker does next is to tell the loop.
        if call == .giveBackFromWorker || call == .handToLoop || call == .takeForWorker && !answer {
            place(.tellsLoop)
        }
        return answer
    }

    /// Sends for whoever has the turn.
    func send(_ bytes: RawSpan) -> Socket.Progress {
        guard isWalking else { return client.take(bytes, Fingerprint()) { _ in 0 } }
        if sender != nil { found(.mixedReplies) }
        sender = current
        place(.beginsToSend, UInt64(bytes.byteCount))
        sender = nil
        note(.sends)
        let progress = client.take(bytes, histories[current]) { choose($0) }
        if case .bytes(let count) = progress { note(.sends, UInt64(count)) } else { note(.sends, 0) }
        return progress
    }

    /// Notes what the loop has received.
    func received(_ count: Int) { note(.receives, UInt64(count)) }
}
