// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Logging
import SystemPackage

@testable import NBDServer

/// A connection in which whoever made it decides what happens next: there is one thread, and workers, the loop, the client
/// and the disk take steps in turn.
///
/// Where threads could change, in the middle of a step too, ``decide`` is asked: while the loop has work carried out,
/// sends or receives, workers may run; while a worker reads or sends, so may the loop and other workers.
final class DrivenConnection: @unchecked Sendable {
    /// Gets a number of choices, at least one, and gives one of them, from 0 on. The first one is always progress.
    private let decide: (Int) -> Int
    private let connection: SteppedConnection
    fileprivate let peer: DrivenPeer
    private var works: [WorkQueue.Job] = []
    private var isLoopBusy = false
    private var isToStop: Bool
    /// Steps within steps; deep ones take no further.
    private var depth = 0

    private enum Step {
        case loop(SteppedConnection.Step)
        case work(Int)
        case stop
    }

    /// - Parameters:
    ///   - loop: is driven; its queue is that of the caller.
    ///   - input: all that the client says.
    ///   - hangsUp: the client goes when it has said all, without waiting for replies; when, is decided.
    ///   - stops: the server is told to stop once the client has chosen an export; when, is decided.
    ///   - log: told what the server says of the client; nil for nobody.
    init(
        _ loop: EventLoop, _ exports: [Export], limits: ServerLimits, buffers: PayloadBufferPool, processors: Int,
        input: [UInt8], hangsUp: Bool = false, stops: Bool = false, log: Logger? = nil, decide: @escaping (Int) -> Int
    ) throws(Errno) {
        self.decide = decide
        isToStop = stops
        peer = DrivenPeer(input, hangsUp: hangsUp)
        let workers = DrivenWorkers()
        connection = try SteppedConnection(
            loop, exports, limits: limits, buffers: buffers, processors: processors, stream: peer, workers: workers,
            log: log)
        workers.take = { [unowned self] work in
            works.append(work)
            others()
        }
        workers.drop = { [unowned self] in
            let dropped = works
            works = []
            for job in dropped { job.dropped() }
        }
        peer.others = { [unowned self] in others() }
        peer.decide = decide
    }

    /// What the server has said so far.
    var output: [UInt8] { peer.output }
    /// Has the server closed the connection, or said that it will say no more?
    var isEnded: Bool { connection.isClosed || peer.isEnded }
    /// Requests that workers have, or wait for.
    var workersBusy: Int { connection.workersBusy }

    /// Lets everything happen until nobody has anything to do.
    func run() {
        connection.start()
        while step() {}
    }

    /// Lets the client say more, and everything happen that follows.
    /// - Returns: false when that has not come to an end after very many steps.
    func say(_ bytes: [UInt8]) -> Bool {
        peer.say(bytes)
        for _ in 0..<10_000 where step() {}
        return !step()
    }

    /// Closes the connection, whatever is under way, and waits for all that holds on to it.
    func end() {
        connection.abort()
        while !loopSteps().isEmpty || !works.isEmpty { _ = step() }
    }

    /// Where threads could change: others may take steps meanwhile.
    func others() {
        guard depth < 4 else { return }
        // A loop that waits for a worker is told of what it may receive again and again.
        for _ in 0..<8 { guard decide(2) == 1, step() else { return } }
    }

    private func loopSteps() -> [Step] {
        isLoopBusy ? [] : connection.steps(canReceive: peer.canReceive).map(Step.loop)
    }

    /// - Returns: false when nobody has anything to do.
    private func step() -> Bool {
        var steps = loopSteps() + works.indices.prefix(4).map(Step.work)
        if isToStop, connection.hasChosenExport { steps.append(.stop) }
        guard !steps.isEmpty else { return false }
        depth += 1
        defer { depth -= 1 }
        switch steps[decide(steps.count)] {
        case .work(let index): works.remove(at: index).run()
        case .loop(let step):
            if step == .writable { peer.takesMore() }
            isLoopBusy = true
            connection.take(step)
            isLoopBusy = false
        case .stop:
            isToStop = false
            connection.leave()
        }
        return true
    }
}

private final class DrivenWorkers: Workers, @unchecked Sendable {
    var take: (WorkQueue.Job) -> Void = { _ in }
    var drop: () -> Void = {}

    func run(for owner: WorkOwner, dropped: @escaping @Sendable () -> Void, _ work: @escaping @Sendable () -> Void) {
        take(WorkQueue.Job(run: work, dropped: dropped))
    }

    func drop(_ owner: WorkOwner) { drop() }
}

/// The client of a driven connection, and the network between.
private final class DrivenPeer: ByteStream, @unchecked Sendable {
    private var input: ArraySlice<UInt8>
    private let hangsUp: Bool
    private(set) var output: [UInt8] = []
    private(set) var isEnded = false
    var others: () -> Void = {}
    var decide: (Int) -> Int = { _ in 0 }
    /// Of the socket, in bytes; nil for as much as there is.
    private var room: Int?

    init(_ input: [UInt8], hangsUp: Bool) {
        self.input = input[...]
        self.hangsUp = hangsUp
    }

    let isTwoWay = true
    let hasPending = false
    /// A client that has been told that the server says no more goes, too.
    var canReceive: Bool { !input.isEmpty || hangsUp || isEnded }

    func receive(into buffer: inout MutableRawSpan) -> Socket.Progress {
        others()
        guard !input.isEmpty else { return hangsUp || isEnded ? .closed : .wouldBlock }
        let count = min(input.count, buffer.byteCount, [.max, 28, 60, 1][decide(4)])
        Array(input.prefix(count)).withBytes { buffer.copy(from: $0) }
        input.removeFirst(count)
        return .bytes(count)
    }

    func say(_ bytes: [UInt8]) { input += bytes }

    /// The client takes what is in the socket.
    func takesMore() { room = nil }

    func send(_ bytes: RawSpan) -> Socket.Progress {
        // Nobody is there to take it.
        if hangsUp, input.isEmpty, decide(2) == 1 { return .closed }
        if room == nil { room = [.max, 0, 10, 1000, 70_000][decide(5)] }
        let count = min(bytes.byteCount, room ?? 0)
        room = (room ?? 0) - count
        unsafe bytes.extracting(first: count).withUnsafeBytes { unsafe output.append(contentsOf: $0) }
        others()
        return count > 0 ? .bytes(count) : .wouldBlock
    }

    func endSending() { isEnded = true }
}
