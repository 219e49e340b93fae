// SPDX-License-Identifier: Apache-2.0

import BlockIO
import TestSupport

@testable import NBDServer
@testable import ServerTestSupport

/// A connection on one path: its loop and its workers are threads, of which one at a time works, and before each touch of
/// what they share the walk says which of them goes on.
///
/// Everything in it belongs to the thread that has the turn.
final class InterleavedConnection: @unchecked Sendable {
    private enum Way {
        case goOn(Int)
        case loop(SteppedConnection.Step)
        case work
        case interrupt
    }

    struct Work {
        let job: WorkQueue.Job
        let label: Fingerprint
    }

    /// Of the loop; workers are numbered from 1 on.
    static let loopSeat = 0

    let scene: Scene
    private let transcript: ReplyTranscript
    private let walk: Walk
    let turns: Turns
    private let pool: PayloadBufferPool
    let right: SendingRight
    var connection: SteppedConnection?
    let client: InterleavedClient

    /// Who has the turn.
    var current = loopSeat
    /// Whether each seat is in the middle of something.
    var isBusy: [Bool]
    var histories: ThreadHistories
    /// Which workers have the right.
    var isUsingSocket: Set<Int> = []
    var works: [Work] = []
    var mail = LoopMail()
    private var step: SteppedConnection.Step?
    var isInterruptionDue: Bool
    var sender: Int?
    /// Threads do not change before the client has chosen an export, nor at the end.
    var isWalking = false
    /// What the loop was told of its socket while it waited for a worker, so that it did nothing: it would do nothing again
    /// before anybody has done something.
    private var futile: (steps: Set<SteppedConnection.Step>, actCount: Int) = ([], 0)
    var hasEnded = false

    /// What has gone wrong, first of all.
    private(set) var harm: Harm?
    /// What the server has said in reply.
    var output: [UInt8] { client.output }

    init(_ scene: Scene, _ loop: EventLoop, _ walk: Walk, _ turns: Turns) throws {
        (self.scene, self.walk, self.turns) = (scene, walk, turns)
        transcript = scene.transcript
        pool = PayloadBufferPool(maximumBytes: scene.memory * scene.sizes.smallestCapacity, sizes: scene.sizes)
        right = scene.mutation.right()
        client = InterleavedClient(shortSends: scene.shortSends)
        isBusy = Array(repeating: false, count: scene.workers + 1)
        histories = ThreadHistories(seats: scene.workers + 1)
        isInterruptionDue = scene.interruption != nil
        let device = MemoryDevice(Scene.contents)
        device.faults.nothingIsCached = true
        device.faults.gate = { [unowned self] in place(.reads) }
        client.connection = self
        let watched = WatchedRight(of: right) { [unowned self] call, body in ask(call, body) }
        connection = try SteppedConnection(
            loop, [Export(name: "", description: "", device: device)], limits: Scene.limits, buffers: pool,
            processors: 0, stream: scene.mutation.stream(client, right), workers: InterleavedWorkers(self),
            right: watched
        ) { [unowned self] event in
            if case .ended = event { hasEnded = true }
        }
    }

    /// What has happened, for people.
    var story: String { histories.story }

    // MARK: A path

    /// Takes one path from the first request to where nobody has anything to do, and looks what has come of it. Called on
    /// the queue of the loop.
    func run() {
        guard let connection else { return }
        client.arrivals = [WireConversation(.simple, []).negotiation]
        connection.start()
        while let step = steps.first { connection.take(step) }
        precondition(connection.hasChosenExport)
        client.output = []
        client.arrivals = scene.arrivals.map { $0.flatMap { $0.encoded(.simple) } }
        isWalking = true
        while true {
            step = nil
            let next = decide(Self.loopSeat)
            if next != Self.loopSeat {
                pass(to: next, from: Self.loopSeat)
            }
            guard let step else { break }
            takeOnLoop(step)
        }
        isWalking = false
        judge(connection)
    }

    private func takeOnLoop(_ step: SteppedConnection.Step) {
        let before = histories[Self.loopSeat]
        isBusy[Self.loopSeat] = true
        note(.takesStep, step.rawValue)
        if step == .mail {
            histories[Self.loopSeat].add(mail.take())
            note(.hears)
        }
        if step == .writable { client.isFull = false }
        let (begun, known) = (histories.count, mail.count)
        connection?.take(step)
        isBusy[Self.loopSeat] = false
        noteMail(of: Self.loopSeat)
        if scene.mutation.sleepsOverMail { mail.sleepOver(knowing: known) }
        if step != .mail, histories.count == begun {
            histories.forgetLast(of: Self.loopSeat, before: before)
            futile = (futile.actCount == histories.count ? futile.steps.union([step]) : [step], histories.count)
        }
    }

    private func judge(_ connection: SteppedConnection) {
        let isRightFree = right.isFree
        switch transcript.found(in: client.output)?.missingCount {
        case nil: found(.mixedReplies)
        case 0: break
        default: if scene.isAllOwed { found(connection.isClosed || isRightFree ? .lostReply : .keptRight) }
        }
        if scene.interruption == nil, !isRightFree { found(.keptRight) }
        if scene.interruption != nil, !connection.isClosed { found(.noEnd) }
        connection.abort()
        while true {
            if let step = steps.first {
                connection.take(step)
            } else if let work = works.popLast() {
                work.job.run()
            } else {
                break
            }
        }
        if !hasEnded || connection.hasSocket || pool.report.used > 0 { found(.noEnd) }
    }

    func found(_ harm: Harm) { self.harm = self.harm ?? harm }

    // MARK: Who goes on

    /// Where threads may change: whoever has the turn is about to touch what is shared.
    func place(_ act: ThreadHistories.Act, _ detail: UInt64 = 0) {
        guard isWalking else { return }
        let me = current
        note(act, detail)
        let next = decide(me)
        if next != me { pass(to: next, from: me) }
    }

    /// Adds to what the thread that has the turn knows.
    func note(_ act: ThreadHistories.Act, _ detail: UInt64 = 0) {
        if isWalking { histories.note(act, detail, by: current) }
    }

    func pass(to seat: Int, from me: Int) {
        current = seat
        turns.give(to: seat)
        turns.wait(me)
    }

    /// - Returns: the seat that has the next turn. The loop without a step: nobody can do anything.
    func decide(_ me: Int) -> Int {
        noteMail(of: me)
        if !isUsingSocket.isEmpty, connection?.hasSocket == false { found(.closedInUse) }
        if isWalking, right.isFree, transcript.found(in: client.output)?.isWithinReply == true {
            found(.rightGivenUp)
        }
        // What is not walked goes on as it does first.
        if walk.isKnown || harm != nil, isBusy[me] { return me }
        while true {
            let ways = ways(me)
            guard !ways.isEmpty else { return Self.loopSeat }
            switch ways[choose(ways.count)] {
            case .goOn(let seat): return seat
            case .loop(let step):
                self.step = step
                return Self.loopSeat
            case .work: return startWork()
            case .interrupt: interrupt()
            }
        }
    }

    func choose(_ count: Int) -> Int {
        // The rest of a path on which something has gone wrong is no matter.
        harm == nil ? walk.choose(count) { state.value } : 0
    }

    private func ways(_ me: Int) -> [Way] {
        var ways: [Way] = isBusy[me] ? [.goOn(me)] : []
        if !isBusy[Self.loopSeat] { ways += steps.map(Way.loop) }
        for seat in isBusy.indices where isBusy[seat] && seat != me { ways.append(.goOn(seat)) }
        if !works.isEmpty, idleWorker != nil { ways.append(.work) }
        if isInterruptionDue { ways.append(.interrupt) }
        return ways
    }

    private var steps: [SteppedConnection.Step] {
        (connection?.steps(canReceive: client.canReceive) ?? []).filter { step in
            switch step {
            case .writable where scene.mutation.forgetsRoom: false
            case .mail: mail.isHeard || !isWalking
            case .readable, .writable: futile.actCount != histories.count || !futile.steps.contains(step) || !isWalking
            }
        }
    }

    /// Workers are alike.
    var idleWorker: Int? { isBusy.indices.dropFirst().first { !isBusy[$0] } }

    /// All that what comes depends on, but for what is the same on all paths.
    private var state: Fingerprint {
        var state = histories[Self.loopSeat]
        for history in histories.ofWorkers { state.add(history) }
        state.add(mail.state)
        state.add(UInt64(works.count))
        for work in works { state.add(work.label) }
        state.add(client.state)
        state.add(isInterruptionDue ? 1 : 0)
        state.add(UInt64(pool.report.used))
        return state
    }
}
