// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Logging
import SystemPackage

/// One client, from the greeting to the end.
///
/// All state belongs to the queue of the connection's loop; workers get a reply buffer, fill it and hand it back there.
/// What a readiness event brings is received, every complete request is served, and the replies leave together. The client
/// is not read from while replies wait to be sent, so that memory stays bounded and the socket holds it back.
final class Connection: @unchecked Sendable {
    /// What the server wants to know.
    enum Event: Equatable {
        /// The client has chosen an export.
        case negotiated(id: UInt64)
        /// The client has read something for the first time.
        case started(id: UInt64)
        /// The client has read enough to be more than a probe.
        case transferred(id: UInt64)
        case ended(id: UInt64, bytesRead: UInt64)
    }

    /// A client that has read no more than this many bytes has only looked: `nbdinfo` and `qemu-img info` read the start
    /// of a disk to guess what is in it.
    static let probeLimit: UInt64 = 16 << 10

    private enum Phase {
        case handshake(Handshake)
        case transmission(Export)
        /// No request is taken any more; replies that are under way still leave.
        case leaving
        /// Everything has been said; what the client still sends is thrown away until it hangs up, because closing a
        /// socket with unread bytes would destroy replies on their way.
        case drained
    }

    /// A read that is too large for the buffers of the moment and is served piece by piece.
    private struct Stream {
        let request: NBDRequest
        let device: any BlockDevice
        /// Bytes of the data that have been put into a buffer.
        var done = 0
        /// A worker fills the next piece.
        var isWaiting = false
    }

    /// What became of a message.
    private enum Step {
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
    private let socket: Socket
    private let loop: EventLoop
    private let context: ServerContext
    private var log: Logger

    private var phase: Phase
    private var input = ReceivedBytes()
    /// Payload bytes of a refused request that are still to come.
    private var payloadToSkip = 0
    private var outbox: Outbox
    private var stream: Stream?
    private var workersBusy = 0
    private var bytesRead: UInt64 = 0
    /// From how many bytes on the client counts as more than a probe.
    private var transferThreshold = probeLimit + 1
    private var hasTransferred = false
    private var failuresLogged = 0

    /// Nil before the start.
    private var watch: SocketWatch?
    /// The client does not take what is to be sent.
    private var isBlocked = false
    /// Something has been sent since the last bytes were received.
    private var hasSent = false
    /// A complete message waits for its turn or for workers: nothing more is received before it is served.
    private var isPaused = false
    private var isClosed = false

    init(id: UInt64, socket: Socket, loop: EventLoop, context: ServerContext) {
        self.id = id
        self.socket = socket
        self.loop = loop
        self.context = context
        self.log = context.log
        self.log[metadataKey: "client"] = "\(id)"
        self.phase = .handshake(Handshake(exports: context.exports))
        self.outbox = Outbox(pool: context.buffers)
    }

    /// Greets the client. Called once, on any queue.
    func start() {
        loop.queue.async { [self] in
            let watch = SocketWatch(
                socket, queue: loop.queue, readable: { [self] in readable() }, writable: { [self] in writable() })
            watch.setDeadline(context.limits.handshake) { [self] in close("did not finish the negotiation in time") }
            self.watch = watch
            send(Handshake.greeting)
            pump()
        }
    }

    /// Lets requests that are under way finish, then says good-bye. Called on any queue.
    func leave() {
        loop.queue.async { [self] in
            guard !isClosed else { return }
            if case .drained = phase { return }
            phase = .leaving
            pump()
        }
    }

    /// Closes now. Called on any queue.
    func abort() {
        loop.queue.async { [self] in close(nil) }
    }

    // MARK: Events

    /// Receives and serves until a reply has left, or nothing more is there.
    ///
    /// Dispatch tells of a client's hang-up once, together with what came before it, and then never again. So it is not
    /// enough to receive once for each event, unless a reply could be sent, which would have failed after a hang-up.
    private func readable() {
        for _ in 0..<Self.receivesPerTurn {
            guard !isClosed, watch?.isReading == true else { return }
            hasSent = false
            switch loop.receive(from: socket, appendingTo: &input) {
            case .wouldBlock: return
            // A client that shuts down its sending side has gone: nobody waits for replies.
            case .closed: close(nil)
            case .bytes: pump()
            }
            if hasSent { return }
        }
        // A client that only talks does not keep the others of the loop from being heard.
        loop.queue.async { [self] in readable() }
    }

    private func writable() {
        guard !isClosed, isBlocked else { return }
        isBlocked = false
        pump()
    }

    private func workerFinished(_ buffer: ReplyBuffer) {
        workersBusy -= 1
        guard !isClosed else { return context.buffers.put(buffer) }
        outbox.enqueue(buffer)
        pump()
    }

    // MARK: The state machine

    /// Does everything that can be done without waiting.
    private func pump() {
        var turn = Self.turn
        isPaused = false
        work: while !isClosed, !isBlocked {
            if outbox.hasFinished {
                guard flush() else { break }
                outbox.advance()
            } else if let stream {
                guard flush(), !stream.isWaiting else { break }
                fillStream(stream)
            } else {
                switch nextMessage() {
                case .handled:
                    turn -= 1
                    guard turn > 0 else {
                        // Other clients of the loop have their turn first.
                        isPaused = true
                        if flush() { loop.queue.async { [self] in pump() } }
                        break work
                    }
                case .flushFirst:
                    guard flush() else { break work }
                case .waitForWorkers:
                    isPaused = true
                    _ = flush()
                    break work
                case .incomplete:
                    if flush(), case .leaving = phase, workersBusy == 0 { finish() }
                    break work
                }
            }
        }
        updateInterest()
    }

    private func nextMessage() -> Step {
        if payloadToSkip > 0 {
            payloadToSkip -= input.drop(payloadToSkip)
            return payloadToSkip == 0 ? .handled() : .incomplete
        }
        switch phase {
        case .leaving, .drained:
            _ = input.drop(input.count)
            return .incomplete
        case .handshake(let handshake): return negotiate(handshake)
        case .transmission(let export):
            guard let bytes = input.front(NBDRequest.encodedLength) else { return .incomplete }
            guard let request = NBDRequest(decoding: bytes) else {
                close("sent a request without NBD_REQUEST_MAGIC")
                return .incomplete
            }
            let step = serve(request, export)
            if case .handled(let payload) = step {
                _ = input.drop(NBDRequest.encodedLength)
                payloadToSkip = payload
            }
            return step
        }
    }

    private func negotiate(_ handshake: Handshake) -> Step {
        var handshake = handshake
        var rest = input.all
        var replies: [UInt8] = []
        let before = rest.count
        let outcome = handshake.receive(&rest, &replies)
        let used = input.drop(before - rest.count)
        phase = .handshake(handshake)
        if !replies.isEmpty { send(replies) }
        switch outcome {
        case .incomplete: return used > 0 ? .handled() : .incomplete
        case .transmission(let export):
            log.debug("chose export '\(export.name)'")
            phase = .transmission(export)
            watch?.setDeadline(.never, nil)
            transferThreshold = min(export.device.size, transferThreshold)
            context.observe(.negotiated(id: id))
            // Of an empty disk there is nothing more to transfer.
            if export.device.size == 0 { count(0) }
            return .handled()
        case .close(let reason):
            if let reason { log.info("\(reason)") }
            phase = .leaving
            return .incomplete
        }
    }

    /// Serves one request, or says what must happen first.
    private func serve(_ request: NBDRequest, _ export: Export) -> Step {
        switch RequestRules.judge(request, size: export.device.size) {
        case .read: return read(request, export.device)
        case .succeed: return reply(request, .none)
        case .refuse(let error, let payload): return reply(request, error, payload: Int(payload))
        case .disconnect:
            phase = .leaving
            return .incomplete
        case .close(let reason):
            close(reason)
            return .incomplete
        }
    }

    private func reply(_ request: NBDRequest, _ error: NBDProtocol.ErrorNumber, payload: Int = 0) -> Step {
        let length = NBDSimpleReply.encodedLength
        guard let buffer = outbox.room(for: length, payload: ReplyBufferPool.smallestPayload) else {
            if !outbox.isFilling { close("there is no memory for a reply") }
            return .flushFirst
        }
        RequestHandler.reply(error, to: request, in: buffer)
        return .handled(payload: payload)
    }

    // MARK: Reads

    /// Reads of more bytes than this go to a worker at once: they would hold up the other clients of the loop.
    private static let inlineLimit = 1 << 20
    /// The buffer that replies of one event are gathered in.
    private static let batchPayload = 256 << 10
    /// The piece of a read that has no buffer of its own size, if there is room for that.
    private static let largestPiece = 1 << 20
    /// Receives in a row without a reply before other clients of the loop have their turn.
    private static let receivesPerTurn = 16
    /// Messages in a row before other clients of the loop have their turn.
    private static let turn = 128

    private func read(_ request: NBDRequest, _ device: any BlockDevice) -> Step {
        let length = Int(request.length)
        guard length <= Self.inlineLimit else { return offload(request, device) }
        let total = NBDSimpleReply.encodedLength + length
        guard let buffer = outbox.room(for: total, payload: max(length, Self.batchPayload)) else {
            return startStream(request, device)
        }
        guard let error = RequestHandler.read(request, from: device, into: buffer, .cachedOnly) else {
            return .handled()
        }
        if error.code == .wouldBlock { return offload(request, device) }
        report(error)
        RequestHandler.reply(error, to: request, in: buffer)
        return .handled()
    }

    private func offload(_ request: NBDRequest, _ device: any BlockDevice) -> Step {
        guard workersBusy < context.limits.requestsInFlight else { return .waitForWorkers }
        guard let buffer = context.buffers.take(payload: Int(request.length)) else {
            return startStream(request, device)
        }
        workersBusy += 1
        context.workers.run { [self] in
            let error = RequestHandler.read(request, from: device, into: buffer, .mayBlock)
            if let error { RequestHandler.reply(error, to: request, in: buffer) }
            loop.queue.async { [self] in
                if let error { report(error) }
                workerFinished(buffer)
            }
        }
        return .handled()
    }

    /// Serves a request for which there is no buffer of its size, once the replies before it have left.
    private func startStream(_ request: NBDRequest, _ device: any BlockDevice) -> Step {
        guard !outbox.isFilling else { return .flushFirst }
        // Nothing may come between the pieces.
        guard workersBusy == 0 else { return .waitForWorkers }
        outbox.release()
        stream = Stream(request: request, device: device)
        return .handled()
    }

    /// Has a worker fill the next piece of the stream.
    private func fillStream(_ stream: Stream) {
        let rest = Int(stream.request.length) - stream.done
        guard
            let buffer = context.buffers.take(payload: min(rest, Self.largestPiece)) ?? context.buffers.takeSmallest()
        else { return close("there is no memory for it") }
        self.stream?.isWaiting = true
        let length = min(rest, buffer.capacity - ReplyBufferPool.headRoom)
        let part = stream.done..<(stream.done + length)
        workersBusy += 1
        context.workers.run { [self] in
            let error = RequestHandler.readPart(part, of: stream.request, from: stream.device, into: buffer, .mayBlock)
            loop.queue.async { [self] in streamPieceFinished(buffer, part, error) }
        }
    }

    private func streamPieceFinished(_ buffer: ReplyBuffer, _ part: Range<Int>, _ error: BlockError?) {
        guard let request = stream?.request else { return workerFinished(buffer) }
        if let error {
            report(error)
            guard part.lowerBound == 0 else {
                // The head of the reply, which says success, has left: only the end of the connection can say otherwise.
                context.buffers.put(buffer)
                return close("has got half a reply that cannot be completed")
            }
            RequestHandler.reply(error, to: request, in: buffer)
        }
        stream?.isWaiting = false
        stream?.done = part.upperBound
        if error != nil || part.upperBound == Int(request.length) { stream = nil }
        workerFinished(buffer)
    }

    /// Counts data that has been sent.
    private func count(_ length: Int) {
        if bytesRead == 0 { context.observe(.started(id: id)) }
        bytesRead += UInt64(length)
        if !hasTransferred, bytesRead >= transferThreshold {
            hasTransferred = true
            context.observe(.transferred(id: id))
        }
    }

    /// Logs a failed read; a client that goes on over a damaged image does not fill the disk with the log.
    private func report(_ error: BlockError) {
        failuresLogged += 1
        if failuresLogged <= 16 { log.error("\(error.description)") }
        if failuresLogged == 16 { log.error("further failures of this connection are not logged") }
    }

    // MARK: Output

    /// Sends negotiation bytes, which are few: a client that does not read them is sent away.
    private func send(_ bytes: [UInt8]) {
        let payload = ReplyBufferPool.smallestPayload
        var buffer = outbox.room(for: bytes.count, payload: payload)
        if buffer == nil, flush() { buffer = outbox.room(for: bytes.count, payload: payload) }
        guard let buffer else { return close("does not read the replies to its options") }
        buffer.append(bytes[...])
    }

    /// Sends what is in the output buffer.
    /// - Returns: true when all of it has left.
    private func flush() -> Bool {
        let isFilled = outbox.isFilling
        switch outbox.flush(to: socket) {
        case .done(let dataCount):
            hasSent = hasSent || isFilled
            if dataCount > 0 { count(dataCount) }
            return true
        case .blocked:
            isBlocked = true
            return false
        case .closed:
            close("hung up before it had all replies")
            return false
        }
    }

    // MARK: Interest and end

    /// How long a client may take to hang up once everything has been said.
    private static let farewell = DispatchTimeInterval.seconds(5)

    /// Ends the server's side of the conversation.
    private func finish() {
        phase = .drained
        socket.endSending()
        watch?.setDeadline(Self.farewell) { [self] in close(nil) }
    }

    private func updateInterest() {
        guard !isClosed else { return }
        let isLeaving = if case .leaving = phase { true } else { false }
        let wantsToRead = !isBlocked && !isPaused && stream == nil && !isLeaving
        if watch?.watch(reading: wantsToRead, writing: isBlocked) == true {
            loop.queue.async { [self] in readable() }
        }
    }

    private func close(_ reason: String?) {
        guard !isClosed else { return }
        isClosed = true
        if let reason { log.info("\(reason); connection closed") }
        phase = .drained
        input = ReceivedBytes()
        stream = nil
        outbox.releaseAll()
        watch?.cancel()
        context.observe(.ended(id: id, bytesRead: bytesRead))
    }
}
