// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Dispatch
import Logging
import Synchronization
import SystemPackage

/// One client, from the greeting to the end.
///
/// All state belongs to the queue of the connection's loop; workers get a buffer, use it and hand it back there, or send
/// it when ``SendingRight`` lets them.
/// What a readiness event brings is received, every complete message is handled, and the replies leave together. The client
/// is not read from while replies wait to be sent, so that memory stays bounded and the socket holds it back.
///
/// This file is the state machine. Connection+Negotiation, +Requests, +Reads and +Writes are what it does with
/// messages, Connection+Workers what workers do with replies.
final class Connection: @unchecked Sendable {
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

    /// A client that has read no more than this many bytes has only looked: `nbdinfo` and `qemu-img info` read the start
    /// of a disk to guess what is in it.
    static let probeLimit: UInt64 = 16 << 10

    enum Phase {
        case handshake(Handshake)
        /// TLS comes before anything else.
        case securing(Securing)
        case transmission(Session)
        /// No request is taken any more; replies that are under way still leave.
        case leaving
        /// Everything has been said; what the client still sends is thrown away until it hangs up, because closing a
        /// socket with unread bytes would destroy replies on their way.
        case drained
    }

    /// What became of a message.
    enum Step {
        /// It was handled; the next one may come after this many bytes of payload, which are skipped.
        case handled(payload: Int = 0)
        /// Nothing complete is there.
        case incomplete
        /// Replies must leave first.
        case flushFirst
        /// Workers must finish first.
        case waitForWorkers
    }

    let id: UInt64
    /// To whose turns its work counts.
    let owner: WorkOwner
    let socket: Socket
    let loop: EventLoop
    let context: ServerContext
    var log: Logger

    var phase: Phase
    /// The socket, or TLS over it.
    var stream: any ByteStream
    var input = ReceivedBytes()
    /// Payload bytes of a refused request that are still to come.
    private var payloadToSkip = 0
    /// For replies and payloads.
    let memory: ReplyShare
    var outbox: Outbox
    /// Shared by the outbox and the workers.
    let right = SendingRight()
    /// A read that is served piece by piece.
    var pieces: PiecewiseRead?
    /// A write whose payload is being received.
    var upload: Upload?
    /// Requests for whose replies workers have found no memory; they come before others.
    var starved: [Starved] = []
    var workersBusy = 0
    /// While the client has to do something; see ``watchForStall()``.
    var stall: Stall?
    private var bytesRead: UInt64 = 0
    /// Bytes of data that workers have sent and that are not in the accounts yet.
    let sentByWorkers = Atomic(0)
    private var hasStarted = false
    private var bytesTransferred: UInt64 = 0
    /// From how many bytes on the client counts as more than a probe.
    var transferThreshold = probeLimit + 1
    private var hasTransferred = false
    private var failuresLogged = 0
    /// The server stops: requests are refused, and the end comes when those before are done.
    var isStopping = false
    /// Nothing has come since the last message: there was no more to receive.
    private var hasHeardAll = false

    /// Nil before the start.
    var watch: SocketWatch?
    /// The client does not take what is to be sent.
    var isBlocked = false
    /// A complete message waits for its turn or for workers: nothing more is received before it is served.
    private var isPaused = false
    /// A worker is sending, and tells when it has finished: nothing is received or sent before.
    private var isWaitingForRight = false
    private let hasClosed = Atomic(false)
    /// Changes on the queue of the loop; workers may look.
    var isClosed: Bool { hasClosed.load(ordering: .relaxed) }

    init(id: UInt64, socket: Socket, loop: EventLoop, context: ServerContext) {
        self.id = id
        self.owner = WorkOwner(peer: socket.peer, connection: id)
        self.memory = ReplyShare(of: context.buffers)
        self.socket = socket
        self.stream = socket
        self.loop = loop
        self.context = context
        self.log = context.log.logger(client: id, isStranger: true)
        var handshake = Handshake(
            exports: context.exports, tls: context.tls.demand, maximumLength: context.limits.requestBytes
        ) { context.offersMore(id) }
        if log.logLevel <= .debug { handshake.notes = [] }
        self.phase = .handshake(handshake)
        self.outbox = Outbox(memory: memory, right: right)
    }

    /// Greets the client. Called once, on any queue.
    func start() {
        loop.run { [self] in
            let watch = SocketWatch(
                socket, loop: loop, readable: { [self] in readable() }, writable: { [self] in writable() },
                lost: { [self] in close("cannot be watched: the system has no room for it") })
            watch.setDeadline(context.limits.handshake) { [self] in close("did not finish the negotiation in time") }
            self.watch = watch
            send(Handshake.greeting)
            pump()
        }
    }

    /// Lets requests that are under way finish, refuses others, then says good-bye. Called on any queue.
    func leave() {
        loop.run { [self] in
            guard !isClosed else { return }
            isStopping = true
            switch phase {
            case .handshake(var handshake):
                handshake.isStopping = true
                phase = .handshake(handshake)
                watch?.setDeadline(Self.courtesy) { [self] in close(nil) }
            case .securing: close(nil)
            case .transmission, .leaving: break
            case .drained: return letGo()
            }
            pump()
        }
    }

    /// Closes now. Called on any queue.
    func abort() {
        loop.run { [self] in close(nil) }
    }

    // MARK: Events

    /// Receives and serves once; what is still in the socket then is told of again.
    func readable() {
        if case .securing(let securing) = phase { return continueSecuring(securing) }
        // It may be this processor that the worker needs.
        guard !isWaitingForRight else { return EventLoop.giveWay() }
        for _ in 0..<Self.receivesPerTurn {
            guard !isClosed, !isPaused, !isWaitingForRight, watch?.isReading == true else { return }
            switch loop.receive(from: stream, appendingTo: &input) {
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
        loop.run { [self] in readable() }
    }

    private func writable() {
        if isBlocked, !isClosed {
            isBlocked = false
            stall?.hasMoved = true
            if case .leaving = phase { waitForProgress() }
            pump()
        } else if case .securing(let securing) = phase {
            continueSecuring(securing)
        }
    }

    // MARK: The state machine

    /// Does everything that can be done without waiting.
    func pump() {
        var turn = Self.turn
        isPaused = false
        isWaitingForRight = false
        work: while !isClosed, !isBlocked {
            if outbox.hasNext {
                guard flush() else { break }
                outbox.advance()
            } else if let pieces {
                guard flush(), !pieces.isWaiting else { break }
                readPiece(pieces)
            } else {
                switch nextMessage() {
                case .handled:
                    hasHeardAll = false
                    turn -= 1
                    if outbox.filledCount >= Self.enough {
                        guard flush() else { break work }
                    }
                    guard turn > 0, !loop.hasWork || turn > Self.turn - Self.leastTurn else {
                        // Other clients of the loop, and replies of workers, have their turn first.
                        isPaused = true
                        guard flush() else { break work }
                        return loop.run { [self] in takeNextTurn() }
                    }
                case .flushFirst:
                    guard flush() else { break work }
                case .waitForWorkers:
                    isPaused = true
                    _ = flush()
                    break work
                case .incomplete:
                    if flush() { everythingHasLeft() }
                    break work
                }
            }
        }
        // What there is to receive is told of until then; that is soon.
        if !isWaitingForRight { updateInterest() }
    }

    private func takeNextTurn() {
        pump()
        // While it was paused nothing was received, and the socket will not tell of what TLS holds back.
        if stream.hasPending { readable() }
    }

    /// Takes no more requests; replies that are under way leave, as long as the client takes some in time.
    func takeNoMore(_ reason: String?) {
        if let reason { log.info("\(reason); connection closed") }
        phase = .leaving
        waitForProgress()
    }

    private func waitForProgress() {
        watch?.setDeadline(context.limits.goodbye) { [self] in close("does not take its replies") }
    }

    private func nextMessage() -> Step {
        if payloadToSkip > 0 {
            payloadToSkip -= input.drop(payloadToSkip)
            return payloadToSkip == 0 ? .handled() : .incomplete
        }
        // Its payload comes next, and what it has of the memory is not there for others.
        if let upload { return receive(upload) }
        if !starved.isEmpty { return serveStarved() }
        switch phase {
        case .securing: return .incomplete
        case .leaving, .drained:
            _ = input.drop(input.count)
            return .incomplete
        case .handshake(let handshake): return negotiate(handshake)
        case .transmission(let session):
            guard let bytes = input.front(session.mode.requestLength) else { return .incomplete }
            guard let request = NBDRequest(decoding: bytes, session.mode) else {
                takeNoMore("sent a request without the magic number")
                return .incomplete
            }
            let step = serve(request, session)
            if case .handled(let payload) = step {
                _ = input.drop(session.mode.requestLength)
                payloadToSkip = payload
            }
            return step
        }
    }

    // MARK: Accounts

    /// From so many bytes on replies leave before more are added: the client has something to do meanwhile.
    private static let enough = 64 << 10
    /// Messages in a row before other clients of the loop have their turn.
    private static let turn = 128
    /// As many at least, so that who has much to say does not leave one to each of the others.
    private static let leastTurn = 16
    /// Receives in a row of what TLS holds back before other clients of the loop have their turn.
    private static let receivesPerTurn = 16

    /// Counts data that has been sent, or written.
    func count(read: Int = 0, written: UInt64 = 0) {
        if !hasStarted {
            hasStarted = true
            context.observe(.started(id: id))
        }
        bytesRead += UInt64(read)
        bytesTransferred += UInt64(read) + written
        if !hasTransferred, bytesTransferred >= transferThreshold {
            hasTransferred = true
            context.observe(.transferred(id: id))
        }
    }

    /// Logs a failed request; a client that goes on over a damaged image does not fill the disk with the log.
    func report(_ error: BlockError) {
        // Work that nobody waits for ends in an error that says nothing.
        guard !isClosed else { return }
        failuresLogged += 1
        if failuresLogged <= 16 { log.error("\(error.description)") }
        if failuresLogged == 16 { log.error("further failures of this connection are not logged") }
    }

    // MARK: Output

    /// Adds negotiation bytes, for which there is room.
    func send(_ bytes: [UInt8]) {
        if !outbox.add(bytes) { close("there is no memory for a reply") }
    }

    /// Sends what is in the output buffer.
    /// - Returns: true when all of it has left.
    func flush() -> Bool {
        switch outbox.flush(to: stream) {
        case .done(let dataCount):
            if dataCount > 0 { count(read: dataCount) }
            return true
        case .waitsForRight:
            isWaitingForRight = true
            return false
        case .blocked:
            waitForClient()
            return false
        case .closed:
            hungUp()
            return false
        }
    }

    // MARK: Interest and end

    /// How long to wait before looking again whether a client has taken its last replies, which nothing tells.
    private static let glance = DispatchTimeInterval.milliseconds(20)
    /// How long a client that negotiates is told that the server stops.
    private static let courtesy = DispatchTimeInterval.milliseconds(500)

    /// Nothing is left to be handled or sent.
    private func everythingHasLeft() {
        switch phase {
        case .securing(let securing): beginSecuring(securing)
        case .transmission where isStopping && workersBusy == 0 && upload == nil:
            // Requests that wait in the socket are refused, too.
            guard hasHeardAll else { return loop.run { [self] in readable() } }
            guard socket.unsentCount > 0 else { return finish() }
            watch?.setDeadline(Self.glance) { [self] in
                hasHeardAll = false
                pump()
            }
        case .leaving where workersBusy == 0: finish()
        default: break
        }
    }

    /// Ends the server's side of the conversation.
    func finish() {
        phase = .drained
        let owesNothing = socket.unsentCount == 0
        stream.endSending()
        if isStopping { return owesNothing ? close(nil) : letGo() }
        watch?.setDeadline(context.limits.farewell) { [self] in close(nil) }
    }

    /// Closes as soon as the client has taken everything; the server stops, and does not wait for it to hang up.
    private func letGo() {
        guard socket.unsentCount > 0 else { return close(nil) }
        watch?.setDeadline(Self.glance) { [self] in letGo() }
    }

    /// The client has gone before it had all replies. Nobody has to be told when it had said good-bye.
    func hungUp() {
        close(hasSaidGoodbye() ? nil : "hung up before it had all replies")
    }

    /// Is a good-bye the last thing that the client has said, be it heard so far or not?
    private func hasSaidGoodbye() -> Bool {
        for _ in 0..<Self.receivesPerTurn {
            guard case .bytes = loop.receive(from: stream, appendingTo: &input) else { break }
        }
        switch phase {
        case .leaving, .drained: return true
        case .securing: return false
        case .handshake: return Handshake.isAbort(input.all.suffix(NBDOptionHeader.encodedLength))
        case .transmission(let session):
            let last = NBDRequest(decoding: input.all.suffix(session.mode.requestLength), session.mode)
            return last.flatMap { NBDProtocol.Command(rawValue: $0.type) } == .disconnect
        }
    }

    func updateInterest() {
        guard !isClosed else { return }
        if case .securing(let securing) = phase, !isBlocked {
            _ = watch?.watch(reading: securing.step == .waitingToRead, writing: securing.step == .waitingToWrite)
            return
        }
        let isLeaving = if case .leaving = phase { true } else { false }
        let wantsToRead = !isBlocked && !isPaused && pieces == nil && !isLeaving
        if watch?.watch(reading: wantsToRead, writing: isBlocked) == true, stream.hasPending {
            loop.run { [self] in readable() }
        }
    }

    func close(_ reason: String?) {
        guard !isClosed else { return }
        hasClosed.store(true, ordering: .relaxed)
        if let reason { log.info("\(reason); connection closed") }
        // A worker that still uses the descriptor must not find another client's under its number; it ends the connection
        // when it has finished.
        let isSecuring = if case .securing(let securing) = phase { securing.step == .working } else { false }
        let isInUse = !right.close() || isSecuring
        phase = .drained
        input = ReceivedBytes()
        pieces = nil
        starved = []
        upload?.abandon(memory)
        upload = nil
        outbox.releaseAll()
        // What has not begun is nobody's any more; what has looks at `isClosed` now and then.
        context.workers.drop(owner)
        context.handshakes.drop(owner)
        guard isInUse else { return end() }
        // A hang-up would be told again and again.
        _ = watch?.watch(reading: false, writing: false)
        socket.endBoth()
    }

    /// Gives up the socket.
    func end() {
        watch?.cancel()
        countSentByWorkers()
        context.observe(.ended(id: id, bytesRead: bytesRead))
    }
}
