// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Dispatch
import Logging
import Synchronization

/// One client, from the greeting to the end.
///
/// All state belongs to the queue of the connection's loop; workers get a buffer, use it and hand it back there, or send
/// it when ``SendingRight`` lets them.
/// What a readiness event brings is received, every complete message is handled, and the replies leave together. The client
/// is not read from while replies wait to be sent, so that memory stays bounded and the socket holds it back.
///
/// This file is its state. Connection+Events is what wakes it, +Messages the state machine, +Negotiation, +Requests, +Reads
/// and +Writes what that does with messages, +Workers what workers do with replies, +Ending how it goes.
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

    enum Phase {
        case negotiation(Negotiation)
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

    /// How long a client that negotiates is told that the server stops.
    private static let courtesy = DispatchTimeInterval.milliseconds(500)

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
    var payloadToSkip = 0
    /// For replies and payloads.
    let memory: PayloadShare
    var sendQueue: SendQueue
    /// Shared by the sendQueue and the workers.
    let right = SendingRight()
    /// A read that is served piece by piece.
    var pieces: PiecewiseRead?
    /// A write whose payload is being received.
    var writePayload: WritePayload?
    /// Requests for whose replies workers have found no memory; they come before others.
    var starved: [Starved] = []
    /// Where requests wait for the device of the chosen export.
    var lane: any Workers
    var workersBusy = 0
    /// Of requests at the lane at the same time: as many as its source likes, if that is more than clients have elsewhere.
    var requestsInFlight: Int
    /// While the client has to do something; see ``watchForStall()``.
    var stall: Stall?
    var accounts = ClientAccounts()
    /// Bytes of data that workers have sent and that are not in the accounts yet.
    let sentByWorkers = Atomic(0)
    /// The server stops: requests are refused, and the end comes when those before are done.
    var isStopping = false
    /// Nothing has come since the last message: there was no more to receive.
    var hasHeardAll = false

    /// Nil before the start.
    var watch: SocketWatch?
    /// What keeps it from going on.
    var waiting: Waiting = []
    var isBlocked: Bool { waiting.contains(.room) }
    /// All of this for others to look at.
    let status = ConnectionStatus()
    let hasClosed = Atomic(false)
    /// Changes on the queue of the loop; workers may look.
    var isClosed: Bool { hasClosed.load(ordering: .relaxed) }

    init(id: UInt64, socket: Socket, loop: EventLoop, context: ServerContext) {
        self.id = id
        self.owner = WorkOwner(peer: socket.peer, connection: id)
        self.memory = PayloadShare(of: context.buffers)
        self.socket = socket
        self.stream = socket
        self.loop = loop
        self.context = context
        self.lane = context.files
        self.requestsInFlight = context.limits.requestsInFlight
        self.log = context.log.logger(client: id, isStranger: true)
        var negotiation = Negotiation(
            exports: context.exports, tls: context.tls.demand, maximumLength: context.limits.requestBytes
        ) { context.offersMore(id) }
        if log.logLevel <= .debug { negotiation.notes = [] }
        self.phase = .negotiation(negotiation)
        self.sendQueue = SendQueue(memory: memory, right: right)
    }

    /// Greets the client. Called once, on any queue.
    func start() {
        loop.run { [self] in
            let watch = SocketWatch(
                socket, loop: loop, readable: { [self] in readable() }, writable: { [self] in writable() },
                lost: { [self] in close("cannot be watched: the system has no room for it") })
            watch.setDeadline(context.limits.negotiation) { [self] in close("did not finish the negotiation in time") }
            self.watch = watch
            send(Negotiation.greeting)
            pump()
        }
    }

    /// Lets requests that are under way finish, refuses others, then says good-bye. Called on any queue.
    func leave() {
        loop.run { [self] in
            guard !isClosed else { return }
            isStopping = true
            switch phase {
            case .negotiation(var negotiation):
                negotiation.isStopping = true
                phase = .negotiation(negotiation)
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
}
