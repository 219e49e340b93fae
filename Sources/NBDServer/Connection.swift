// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Dispatch
import Logging
import SystemPackage

/// One client, from the greeting to the end.
///
/// All state belongs to the queue of the connection's loop; workers get a reply buffer, fill it and hand it back there.
/// A readiness event receives once; every complete request is served, and the replies leave together. The client is not
/// read from while replies wait to be sent, so that memory stays bounded and the socket holds it back.
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
    static let probeLimit: UInt64 = 64 << 10

    private enum Phase {
        case handshake(Handshake)
        case transmission(Export)
        /// Nothing is received any more; replies that are under way still leave.
        case leaving
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
    private var output: ReplyBuffer?
    private var stream: Stream?
    private var finished: [ReplyBuffer] = []
    private var workersBusy = 0
    private var bytesRead: UInt64 = 0
    private var failuresLogged = 0

    private let readSource: any DispatchSourceRead
    private let writeSource: any DispatchSourceWrite
    private var isReading = false
    private var isWriting = false
    private var isBlocked = false
    private var isClosed = false

    init(id: UInt64, socket: Socket, loop: EventLoop, context: ServerContext) {
        self.id = id
        self.socket = socket
        self.loop = loop
        self.context = context
        self.log = context.log
        self.log[metadataKey: "client"] = "\(id)"
        self.phase = .handshake(Handshake(exports: context.exports))
        self.readSource = DispatchSource.makeReadSource(
            fileDescriptor: socket.descriptor.rawValue, queue: loop.queue)
        self.writeSource = DispatchSource.makeWriteSource(
            fileDescriptor: socket.descriptor.rawValue, queue: loop.queue)
    }

    /// Greets the client. Called once, on any queue.
    func start() {
        loop.queue.async { [self] in
            readSource.setEventHandler { [self] in readable() }
            writeSource.setEventHandler { [self] in writable() }
            // The descriptor may be closed when neither source watches it any more.
            let group = DispatchGroup()
            group.enter()
            group.enter()
            readSource.setCancelHandler { group.leave() }
            writeSource.setCancelHandler { group.leave() }
            group.notify(queue: loop.queue) { [socket] in socket.close() }
            loop.queue.asyncAfter(deadline: .now() + context.limits.handshake) { [weak self] in
                self?.handshakeDeadline()
            }
            send(Handshake.greeting)
            pump()
        }
    }

    /// Lets requests that are under way finish, then closes. Called on any queue.
    func leave() {
        loop.queue.async { [self] in
            guard !isClosed else { return }
            phase = .leaving
            pump()
        }
    }

    /// Closes now. Called on any queue.
    func abort() {
        loop.queue.async { [self] in close(nil) }
    }

    private func handshakeDeadline() {
        guard case .handshake = phase else { return }
        close("did not finish the negotiation in time")
    }

    // MARK: Events

    private func readable() {
        guard !isClosed, isReading else { return }
        switch loop.receive(from: socket, appendingTo: &input) {
        case .wouldBlock: return
        case .closed:
            // Replies nobody waits for: a client that shuts down its sending side has gone.
            close(nil)
            return
        case .bytes: pump()
        }
    }

    private func writable() {
        guard !isClosed, isBlocked else { return }
        isBlocked = false
        pump()
    }

    private func workerFinished(_ buffer: ReplyBuffer) {
        workersBusy -= 1
        guard !isClosed else { return context.buffers.put(buffer) }
        finished.append(buffer)
        pump()
    }

    // MARK: The state machine

    /// Does everything that can be done without waiting.
    private func pump() {
        var turn = Self.turn
        work: while !isClosed, !isBlocked {
            if let stream {
                guard flush(), !stream.isWaiting else { break }
                fillStream()
            } else if !finished.isEmpty {
                guard flush() else { break }
                output = finished.removeFirst()
            } else {
                switch nextMessage() {
                case .handled:
                    turn -= 1
                    guard turn > 0 else {
                        // Other clients of the loop have their turn first.
                        if flush() { loop.queue.async { [self] in pump() } }
                        break work
                    }
                case .flushFirst:
                    guard flush() else { break work }
                case .incomplete, .waitForWorkers:
                    if flush(), case .leaving = phase, workersBusy == 0 { close(nil) }
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
        case .leaving: return .incomplete
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
            context.observe(.negotiated(id: id))
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
        guard let buffer = outputBuffer(), buffer.room >= NBDSimpleReply.encodedLength else { return .flushFirst }
        append(NBDSimpleReply(error: error, cookie: request.cookie), to: buffer)
        return .handled(payload: payload)
    }

    // MARK: Reads

    /// Reads of more bytes than this go to a worker at once: they would hold up the other clients of the loop.
    private static let inlineLimit = 1 << 20
    /// The buffer that replies of one event are gathered in.
    private static let batchPayload = 256 << 10
    /// Messages in a row before other clients of the loop have their turn.
    private static let turn = 128

    private func read(_ request: NBDRequest, _ device: any BlockDevice) -> Step {
        let length = Int(request.length)
        guard length <= Self.inlineLimit else { return offload(request, device) }
        if output == nil {
            output = context.buffers.take(payload: max(length, Self.batchPayload))
            if output == nil, length <= ReplyBufferPool.smallestPayload { output = context.buffers.takeSmallest() }
        }
        guard let output, output.room >= NBDSimpleReply.encodedLength + length else {
            if let output, !output.isEmpty { return .flushFirst }
            releaseOutput()
            return startStream(request, device)
        }
        switch Self.fill(output, request, device, .cachedOnly) {
        case nil: count(length)
        case let error? where error.code == .wouldBlock: return offload(request, device)
        case let error?:
            report(error)
            append(NBDSimpleReply(error: Self.errorNumber(error), cookie: request.cookie), to: output)
        }
        return .handled()
    }

    /// Puts head and data of a reply into `buffer`, or neither.
    private static func fill(
        _ buffer: ReplyBuffer, _ request: NBDRequest, _ device: any BlockDevice, _ mode: ReadMode
    ) -> BlockError? {
        let head = NBDSimpleReply.encodedLength
        do throws(BlockError) {
            try buffer.append(head + Int(request.length)) { (bytes) throws(BlockError) in
                NBDSimpleReply(error: .none, cookie: request.cookie).encode(into: &bytes)
                try bytes.withSlice(head..<bytes.byteCount) { (data) throws(BlockError) in
                    try device.read(into: &data, at: request.offset, mode)
                }
            }
            return nil
        } catch { return error }
    }

    private func offload(_ request: NBDRequest, _ device: any BlockDevice) -> Step {
        guard workersBusy < context.limits.requestsInFlight else { return .waitForWorkers }
        guard let buffer = context.buffers.take(payload: Int(request.length)) else {
            if let output, !output.isEmpty { return .flushFirst }
            return startStream(request, device)
        }
        workersBusy += 1
        context.workers.run { [self] in
            let error = Self.fill(buffer, request, device, .mayBlock)
            if let error {
                append(NBDSimpleReply(error: Self.errorNumber(error), cookie: request.cookie), to: buffer)
            }
            loop.queue.async { [self] in
                if let error { report(error) } else { count(Int(request.length)) }
                workerFinished(buffer)
            }
        }
        return .handled()
    }

    private func startStream(_ request: NBDRequest, _ device: any BlockDevice) -> Step {
        // Replies of workers must not come between the pieces, and a stream must not wait for them with memory in hand.
        stream = Stream(request: request, device: device)
        return .handled()
    }

    /// Fills the next piece of the stream into an empty output buffer.
    private func fillStream() {
        guard let buffer = output ?? context.buffers.takeSmallest() else { return close("there is no memory for it") }
        output = nil
        stream?.isWaiting = true
        guard let stream else { return }
        let rest = Int(stream.request.length) - stream.done
        let head = stream.done == 0 ? NBDSimpleReply.encodedLength : 0
        let length = min(rest, buffer.capacity - ReplyBufferPool.headRoom)
        workersBusy += 1
        context.workers.run { [self] in
            var failure: BlockError?
            do throws(BlockError) {
                try buffer.append(head + length) { (bytes) throws(BlockError) in
                    if head > 0 { NBDSimpleReply(error: .none, cookie: stream.request.cookie).encode(into: &bytes) }
                    try bytes.withSlice(head..<bytes.byteCount) { (data) throws(BlockError) in
                        let offset = stream.request.offset + UInt64(stream.done)
                        try stream.device.read(into: &data, at: offset, .mayBlock)
                    }
                }
            } catch { failure = error }
            loop.queue.async { [self, failure] in streamPieceFinished(buffer, length, failure) }
        }
    }

    private func streamPieceFinished(_ buffer: ReplyBuffer, _ length: Int, _ failure: BlockError?) {
        workersBusy -= 1
        guard !isClosed, var stream else { return context.buffers.put(buffer) }
        stream.isWaiting = false
        stream.done += length
        output = buffer
        if let failure {
            report(failure)
            guard stream.done == length else {
                // The head of the reply, which says success, has left: only the end of the connection can say otherwise.
                return close("has got half a reply that cannot be completed")
            }
            append(NBDSimpleReply(error: Self.errorNumber(failure), cookie: stream.request.cookie), to: buffer)
        } else {
            count(length)
        }
        let isComplete = failure != nil || stream.done == Int(stream.request.length)
        self.stream = isComplete ? nil : stream
        pump()
    }

    private static func errorNumber(_ error: BlockError) -> NBDProtocol.ErrorNumber {
        switch error.code {
        case .outOfRange: .invalid
        case .inputOutput, .damaged, .wouldBlock: .inputOutput
        }
    }

    private func count(_ length: Int) {
        let before = bytesRead
        bytesRead += UInt64(length)
        if before == 0 { context.observe(.started(id: id)) }
        if before <= Self.probeLimit, bytesRead > Self.probeLimit { context.observe(.transferred(id: id)) }
    }

    /// Logs a failed read; a client that goes on over a damaged image does not fill the disk with the log.
    private func report(_ error: BlockError) {
        failuresLogged += 1
        if failuresLogged <= 16 { log.error("\(error.description)") }
        if failuresLogged == 16 { log.error("further failures of this connection are not logged") }
    }

    // MARK: Output

    private func outputBuffer() -> ReplyBuffer? {
        if output == nil { output = context.buffers.takeSmallest() }
        return output
    }

    private func append(_ reply: NBDSimpleReply, to buffer: ReplyBuffer) {
        buffer.append(NBDSimpleReply.encodedLength) { reply.encode(into: &$0) }
    }

    /// Sends negotiation bytes, which are few: a client that does not read them is sent away.
    private func send(_ bytes: [UInt8]) {
        guard let buffer = outputBuffer(), buffer.room >= bytes.count else {
            return close("does not read the replies to its options")
        }
        buffer.append(bytes[...])
    }

    /// Sends what is in the output buffer.
    /// - Returns: true when all of it has left.
    private func flush() -> Bool {
        guard let output, !output.isEmpty else {
            releaseOutput()
            return true
        }
        switch output.send(to: socket) {
        case .bytes:
            releaseOutput()
            return true
        case .wouldBlock:
            isBlocked = true
            return false
        case .closed:
            close("hung up before it had all replies")
            return false
        }
    }

    private func releaseOutput() {
        if let output { context.buffers.put(output) }
        output = nil
    }

    // MARK: Interest and end

    private func updateInterest() {
        guard !isClosed else { return }
        let isLeaving = if case .leaving = phase { true } else { false }
        let wantsToRead =
            !isBlocked && stream == nil && !isLeaving && workersBusy < context.limits.requestsInFlight
        if wantsToRead != isReading {
            isReading = wantsToRead
            if wantsToRead { readSource.resume() } else { readSource.suspend() }
        }
        if isBlocked != isWriting {
            isWriting = isBlocked
            if isBlocked { writeSource.resume() } else { writeSource.suspend() }
        }
    }

    private func close(_ reason: String?) {
        guard !isClosed else { return }
        isClosed = true
        if let reason { log.info("\(reason); connection closed") }
        phase = .leaving
        input = ReceivedBytes()
        stream = nil
        releaseOutput()
        for buffer in finished { context.buffers.put(buffer) }
        finished = []
        // A suspended source would never be cancelled.
        if !isReading { readSource.resume() }
        if !isWriting { writeSource.resume() }
        readSource.cancel()
        writeSource.cancel()
        context.observe(.ended(id: id, bytesRead: bytesRead))
    }
}
