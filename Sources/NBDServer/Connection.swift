// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Logging
import Synchronization

/// One client, from the greeting to the end: what is received from it and sent to it, and the phases that it goes through,
/// each an object that holds what only it needs.
///
/// All state belongs to the queue of the connection's loop; workers get a buffer, use it and hand it back there, or send
/// it when ``SendingRight`` lets them.
/// What a readiness event brings is received, every complete message is handled, and the replies leave together. The client
/// is not read from while replies wait to be sent, so that memory stays bounded and the socket holds it back.
final class Connection: SocketHandler, @unchecked Sendable {
    /// What the server wants to know.
    enum Event: Equatable {
        /// The client has chosen an export.
        case negotiated(id: UInt64)
        /// The client has transferred something for the first time.
        case started(id: UInt64)
        /// The client has transferred enough to be more than a probe.
        case transferred(id: UInt64)
        case ended(id: UInt64, bytesRead: UInt64)
    }

    /// Why a client is let go for which the system has not even the smallest buffer.
    static let noMemory = "there is no memory for its request"
    /// How long a client that negotiates is told that the server stops.
    private static let courtesy = DispatchTimeInterval.milliseconds(500)
    /// Receives in a row of what TLS holds back before other clients of the loop have their turn.
    static let receivesPerTurn = 16
    /// Messages in a row before other clients of the loop have their turn.
    private static let turn = 128
    /// As many at least, so that who has much to say does not leave one to each of the others.
    private static let leastTurn = 16

    let id: UInt64
    /// To whose turns its work counts.
    let owner: WorkOwner
    let socket: Socket
    let loop: EventLoop
    let context: ServerContext
    var log: Logger

    var phase = Phase.drained
    /// The socket, or TLS over it.
    var stream: any ByteStream
    let input = ReceivedBytes()
    /// For replies and payloads.
    let memory: PayloadShare
    /// Of ``sendQueue``, for workers.
    let right: SendingRight
    let sendQueue: SendQueue
    /// While the client has to do something; see ``watchForStall()``.
    var stall: Stall?
    let accounts = ClientAccounts()
    /// The server stops: requests are refused, and the end comes when those before are done.
    var isStopping = false
    /// Nothing has come since the last message: there was no more to receive.
    var hasHeardAll = false

    /// Nil before the start.
    var watch: SocketWatch?
    /// See ``pumpSoon()``.
    private var isToBePumped = false
    /// What keeps it from going on.
    var waiting: Waiting = []
    var isBlocked: Bool { waiting.contains(.room) }
    /// All of this for others to look at.
    let status = ConnectionStatus()
    let hasClosed = Atomic(false)
    /// Changes on the queue of the loop; workers may look.
    var isClosed: Bool { hasClosed.load(ordering: .relaxed) }
    /// Requests that workers have, or wait for.
    var workersBusy: Int { phase.transmission?.workersBusy ?? 0 }

    init(id: UInt64, socket: Socket, loop: EventLoop, context: ServerContext, right: SendingRight = SendingRight()) {
        self.id = id
        self.owner = WorkOwner(peer: socket.peer, connection: id)
        self.memory = PayloadShare(of: context.buffers)
        self.right = right
        self.sendQueue = SendQueue(memory: memory, right: right)
        self.socket = socket
        self.stream = socket
        self.loop = loop
        self.context = context
        self.log = context.log.logger(client: id, isStranger: true)
        var negotiation = Negotiation(
            exports: context.exports, tls: context.tls.demand, maximumLength: context.limits.requestBytes
        ) { context.offersMore(id) }
        if log.logLevel <= .debug { negotiation.notes = [] }
        self.phase = .negotiating(Negotiating(self, negotiation))
    }

    // MARK: From the server, on any queue

    /// Greets the client. Called once.
    func start() {
        loop.run { [self] in
            let watch = SocketWatch(socket, loop: loop, handler: self)
            watch.setDeadline(context.limits.negotiation) { [self] in close("did not finish the negotiation in time") }
            self.watch = watch
            send(Negotiation.greeting)
            pump()
        }
    }

    /// Lets requests that are under way finish, refuses others, then says good-bye.
    func leave() {
        loop.run { [self] in
            guard !isClosed else { return }
            isStopping = true
            switch phase {
            case .negotiating(let negotiating):
                negotiating.stop()
                watch?.setDeadline(Self.courtesy) { [self] in close(nil) }
            case .securing: close(nil)
            case .transmitting, .leaving: break
            case .drained: return letGo()
            }
            pump()
        }
    }

    /// Closes now.
    func abort() {
        loop.run { [self] in close(nil) }
    }

    // MARK: From the loop

    /// Receives and serves once; what is still in the socket then is told of again.
    func readable(_ scratch: ScratchMemory) {
        dispatchPrecondition(condition: .onQueue(loop.queue))
        if case .securing(let securing) = phase { return securing.proceed() }
        // It may be this processor that the worker needs.
        guard !waiting.contains(.right) else { return EventLoop.giveWay() }
        for _ in 0..<Self.receivesPerTurn {
            guard !isClosed, waiting.isDisjoint(with: .toBeResumed), watch?.isReading == true else { return }
            // Nothing else can come before the rest of a payload.
            let payload = input.count == 0 ? phase.transmission?.writePayload?.receive(from: stream) : nil
            switch payload ?? input.receive(from: stream, through: scratch) {
            case .wouldBlock:
                if isStopping, !hasHeardAll {
                    hasHeardAll = true
                    pump()
                }
                return
            // A client that shuts down its sending side has gone: nobody waits for replies.
            case .closed: close(nil)
            case .bytes:
                stall?.hasMoved = true
                pump()
            }
            guard stream.hasPending else { return }
        }
        // A client that only talks does not keep the others of the loop from being heard.
        readLater()
    }

    /// The client has taken some of what was sent.
    func writable() {
        if isBlocked, !isClosed {
            waiting.remove(.room)
            stall?.hasMoved = true
            if case .leaving = phase { waitForProgress() }
            pump()
        } else if case .securing(let securing) = phase {
            securing.proceed()
        }
    }

    func lost() { close("cannot be watched: the system has no room for it") }

    /// Receives once others of the loop have had their turn, though the socket may not tell of anything.
    func readLater() {
        loop.run { [self] in readable(loop.scratch) }
    }

    // MARK: Messages

    /// Does everything that can be done without waiting.
    func pump() {
        var turn = Self.turn
        defer { showStatus() }
        waiting.subtract(.toBeResumed)
        work: while !isClosed, !isBlocked {
            let step = sendQueue.hasNext ? .flushFirst : nextStep()
            switch step {
            case .handled:
                hasHeardAll = false
                turn -= 1
                if turn == 0 || loop.hasWork && turn <= Self.turn - Self.leastTurn {
                    // Other clients of the loop, and replies of workers, have their turn first.
                    waiting.insert(.turn)
                } else if sendQueue.filledCount < memory.sizes.enough {
                    continue
                }
            case .waitForWorkers:
                // With none of its requests at a worker nobody would say when to go on.
                guard workersBusy > 0 else {
                    close(Self.noMemory)
                    break work
                }
                waiting.insert(.workers)
            case .flushFirst, .waitForPiece, .incomplete: break
            }
            switch sendQueue.flush(to: stream) {
            case .done(let dataCount):
                if dataCount > 0 { count(read: dataCount) }
            case .waitsForRight:
                waiting.insert(.right)
                break work
            case .blocked:
                waitForClient()
                break work
            case .closed:
                hungUp()
                break work
            }
            switch step {
            case .handled where waiting.contains(.turn): return loop.run { [self] in takeNextTurn() }
            case .handled: break
            case .flushFirst: if sendQueue.hasNext { sendQueue.advance() }
            case .waitForWorkers, .waitForPiece: break work
            case .incomplete:
                everythingHasLeft()
                break work
            }
        }
        // What there is to receive is told of until then; that is soon.
        if !waiting.contains(.right) { updateInterest() }
    }

    /// Goes on when the loop has taken all work that waits: what workers have finished meanwhile leaves together.
    func pumpSoon() {
        guard !isToBePumped else { return }
        isToBePumped = true
        loop.runAfterWork { [self] in
            isToBePumped = false
            pump()
        }
    }

    private func nextStep() -> Step {
        switch phase {
        case .negotiating(let negotiating): return negotiating.next()
        case .transmitting(let transmission): return transmission.next()
        case .securing: return .incomplete
        case .leaving(let transmission):
            if let step = transmission?.unfinished() { return step }
        case .drained: break
        }
        _ = input.drop(input.count)
        return .incomplete
    }

    private func takeNextTurn() {
        pump()
        // While it was paused nothing was received, and the socket will not tell of what TLS holds back.
        if stream.hasPending { readable(loop.scratch) }
    }

    /// Adds negotiation bytes, for which there is room.
    func send(_ bytes: [UInt8]) {
        if !sendQueue.add(bytes) { close("there is no memory for a reply") }
    }

    // MARK: Interest

    /// Of what the loop has to tell now.
    private var interest: (reading: Bool, writing: Bool) {
        // Nothing is received before the client has taken what it is told.
        if isBlocked { return (false, true) }
        let goesOn = waiting.isDisjoint(with: [.turn, .workers])
        return switch phase {
        case .negotiating, .drained: (goesOn, false)
        case .securing(let securing): securing.interest
        case .transmitting(let transmission): (goesOn && transmission.wantsRequests, false)
        case .leaving: (false, false)
        }
    }

    /// Says what the loop has to tell of from now on.
    func updateInterest() {
        guard !isClosed else { return }
        let (reading, writing) = interest
        if watch?.watch(reading: reading, writing: writing) == true, stream.hasPending { readLater() }
    }
}
