// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import CLinux

/// Small writes of a client, of which one worker carries out all that have come, one after the other.
///
/// To hand each to a worker of its own and its reply back costs more than the write itself, which ends in the page cache; and
/// those who write to one file wait for each other in the kernel. A write during which the thread had to wait (for what it
/// reads, or for a lock) shows that others would gain from workers of their own, and they get them.
final class SmallWrites: Sendable {
    /// A write with all of its payload.
    struct Write: Sendable {
        let payload: WritePayload
        let piece: PayloadBuffer
    }

    /// The largest one, in bytes.
    static let largest = 16 << 10
    /// How many a worker carries out before others have their turn.
    static let turn = 64

    private struct State {
        var waiting: [Write] = []
        var isWithWorker = false
    }

    private let state = Locked(State())

    /// Adds a write.
    /// - Returns: whether a worker has to be called.
    func add(_ write: Write) -> Bool {
        state.withLock { state in
            state.waiting.append(write)
            defer { state.isWithWorker = true }
            return !state.isWithWorker
        }
    }

    /// All that wait; none: then the worker has to be called again for the next one.
    func take() -> [Write] {
        state.withLock { state in
            defer { state.waiting = [] }
            state.isWithWorker = !state.waiting.isEmpty
            return state.waiting
        }
    }

    /// Those that have come since the last call, for a worker that has taken some and is not done with them.
    func takeMore() -> [Write] {
        state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
    }

    /// Carries out some of `writes`, the first at least.
    /// - Returns: what became of them: as many results as were carried out.
    static func carryOut(_ writes: [Write]) -> [BlockError?] {
        var results: [BlockError?] = []
        let waits = linux_thread_waits()
        for write in writes {
            results.append(carryOut(write))
            if linux_thread_waits() != waits { break }
        }
        return results
    }

    /// Writes, not to the disk.
    static func carryOut(_ write: Write) -> BlockError? {
        write.piece.withFilled { write.payload.handler.write(&$0, part: 0, []) }
    }
}

extension Transmission {
    /// Has a worker carry out the small writes that wait.
    func callForSmallWrites() {
        onWorker { [memory, smallWrites] in
            for write in smallWrites.take() { memory.put(write.piece) }
        } _: { [self] in
            var turn = SmallWrites.turn
            while turn > 0 {
                let writes = smallWrites.take()
                guard !writes.isEmpty else { return }
                turn -= writes.count
                let results = SmallWrites.carryOut(writes)
                for write in writes[results.count...] { writeAlone(write.piece, of: write.payload, 0, []) }
                reply(to: writes, results)
            }
            callForSmallWrites()
        }
    }

    /// Has a worker carry out the small writes that wait and have to be on disk before their replies.
    ///
    /// One flush serves all that have come: a disk takes about as long for one as for many.
    func callForDurableWrites() {
        onWorker { [memory, durableWrites] in
            for write in durableWrites.take() { memory.put(write.piece) }
        } _: { [self] in
            var turn = SmallWrites.turn
            while turn > 0 {
                var writes = durableWrites.take()
                guard let flush = writes.first?.payload.handler.flush else { return }
                var results: [BlockError?] = []
                repeat {
                    results += writes[results.count...].map(SmallWrites.carryOut)
                    // Replies to those before have brought the client's next ones.
                    if results.count < turn { writes += durableWrites.takeMore() }
                } while results.count < writes.count
                turn -= writes.count
                if let error = flush() { results = results.map { $0 ?? error } }
                reply(to: writes, results)
            }
            callForDurableWrites()
        }
    }

    /// Replies to the first of `writes`: as many as there are results.
    private func reply(to writes: [SmallWrites.Write], _ results: [BlockError?]) {
        loop.run { [self] in
            for (write, error) in zip(writes, results) { written(write.piece, of: write.payload, 0, error) }
        }
    }
}
