// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

/// The state of a connection whose client has chosen an export: its requests are served.
///
/// Belongs to the queue of the connection's loop; workers hold on to it, and use nothing that changes.
final class Transmission: @unchecked Sendable {
    /// Forgets this when it says or hears no more.
    let connection: Connection
    let session: Session
    /// Where requests wait for the device of the export.
    let lane: any Workers
    /// Of requests at the lane at the same time: as many as its source likes, if that is more than clients have elsewhere.
    let requestsInFlight: Int
    /// Of the connection, as what follows.
    let memory: PayloadShare
    let loop: EventLoop
    /// Does not change any more.
    private let stream: any ByteStream
    /// Requests that workers have, or wait for.
    var workersBusy = 0
    /// Payload bytes of a refused request that are still to come.
    private var payloadToSkip = 0
    /// A read that is served piece by piece.
    var pieces: PiecewiseRead?
    /// A write whose payload is being received.
    var writePayload: WritePayload?
    /// Writes whose payload has come, for one worker.
    let smallWrites = SmallWrites()
    /// Those among them that have to be on disk before their replies.
    let durableWrites = SmallWrites()
    /// Requests for whose replies workers have found no memory; they come before others.
    var starved: [Starved] = []

    init(_ connection: Connection, _ session: Session) {
        self.connection = connection
        self.session = session
        memory = connection.memory
        loop = connection.loop
        stream = connection.stream
        let limit = connection.context.limits.requestsInFlight
        lane = session.export.lane ?? connection.context.files
        requestsInFlight = max(limit, session.export.lane?.width ?? 0)
    }

    /// Are requests wanted? Nothing else comes before the pieces of a read have left.
    var wantsRequests: Bool { pieces == nil }
    /// Has a request begun that keeps others from coming?
    private var isHeldUp: Bool { payloadToSkip > 0 || pieces != nil || writePayload != nil || !starved.isEmpty }
    /// Is nothing under way? No request has been begun, be its payload on its way, or its reply.
    var isIdle: Bool { workersBusy == 0 && writePayload == nil }

    /// Forgets all that is under way: the connection has been closed.
    func abandon() {
        pieces = nil
        starved = []
        writePayload?.abandon(memory)
        writePayload = nil
        // What has not begun is nobody's any more; what has looks at `connection.isClosed` now and then.
        lane.drop(connection.owner)
    }

    // MARK: Messages

    /// Goes on with what has begun, or takes the next request.
    func next() -> Connection.Step {
        if isHeldUp, let step = unfinished() { return step }
        let mode = session.mode
        guard connection.input.count >= mode.requestLength else { return .incomplete }
        guard let request = connection.input.withAll({ NBDRequest(decoding: $0, mode) }) else {
            return end("sent a request without the magic number")
        }
        let handler = RequestHandler(session: session, request: request)
        let step: Connection.Step =
            switch RequestRules.judge(request, session) {
            case .perform where connection.isStopping: refuse(handler, .shutdown, "the server is being stopped")
            case .perform(.nothing): reply(handler) { handler.reply.succeed(in: $0) }
            case .perform(.read): read(handler)
            case .perform(.write(let isDurable)): startWrite(handler, isDurable: isDurable)
            case .perform(.blockStatus(let isOne)): blockStatus(handler, isOne: isOne)
            case .perform(.filteredBlockStatus(let isOne)): filteredBlockStatus(handler, isOne: isOne)
            case .perform(let operation): offload(handler, operation)
            case .refuse(let error, let sentence): refuse(handler, error, sentence)
            case .disconnect: end(nil)
            case .close(let reason): end(reason)
            }
        if case .handled(let payload) = step {
            _ = connection.input.drop(mode.requestLength)
            payloadToSkip = payload
        }
        return step
    }

    /// Takes no more requests.
    private func end(_ reason: Sentence?) -> Connection.Step {
        connection.takeNoMore(reason)
        return .incomplete
    }

    /// Goes on with a request that has begun and keeps others from coming; nil: there is none.
    func unfinished() -> Connection.Step? {
        if let pieces {
            guard !connection.sendQueue.isFilling else { return .flushFirst }
            if !pieces.isWaiting { readPiece(pieces) }
            return .waitForPiece
        }
        if payloadToSkip > 0 {
            payloadToSkip -= connection.input.drop(payloadToSkip)
            return payloadToSkip == 0 ? .handled() : .incomplete
        }
        // Its payload comes next, and what it has of the memory is not there for others.
        if let writePayload { return receive(writePayload) }
        return starved.isEmpty ? nil : serveStarved()
    }

    /// Serves a read here and now if that needs no waiting.
    private func read(_ handler: RequestHandler) -> Connection.Step {
        let length = Int(handler.request.length)
        let sizes = memory.sizes
        guard length <= sizes.inlineLimit else { return offloadRead(handler) }
        // Another request of the client is there behind this one.
        let hasMore = connection.input.count >= 2 * handler.session.mode.requestLength
        if length >= sizes.worthSharing, hasMore, workersBusy < requestsInFlight,
            connection.context.processors.take()
        {
            workersBusy += 1
            readOnWorker(handler, isShared: true)
            return .handled()
        }
        let total = max(handler.reply.length(ofData: length), Reply.longestWithoutData)
        guard let buffer = connection.sendQueue.room(for: total, payload: max(length, sizes.batch)) else {
            return startPieces(handler)
        }
        guard let error = handler.read(0..<length, into: buffer, loop.readMode) else { return .handled() }
        if error.code == .wouldBlock { return offloadRead(handler) }
        connection.report(error)
        handler.reply.fail(error, at: handler.request.offset, in: buffer)
        return .handled()
    }

    private func offloadRead(_ handler: RequestHandler) -> Connection.Step {
        guard workersBusy < requestsInFlight else { return .waitForWorkers }
        workersBusy += 1
        readOnWorker(handler)
        return .handled()
    }

    /// Has a worker serve a read; it counts as busy already.
    ///
    /// - Parameters:
    ///   - done: how many bytes of it are in the buffer; others have had their turn since.
    ///   - buffer: nil: the worker takes one when it begins.
    ///   - isShared: the worker has a processor of its own, to give back.
    private func readOnWorker(
        _ handler: RequestHandler, from done: UInt64 = 0, into buffer: PayloadBuffer? = nil, isShared: Bool = false
    ) {
        onWorker { [memory, processors = connection.context.processors] in
            if let buffer { memory.put(buffer) }
            if isShared { processors.leave() }
        } _: { [self] in
            defer { if isShared { connection.context.processors.leave() } }
            guard let buffer = buffer ?? memory.take(payload: Int(handler.request.length)) else {
                return starve(.read(handler))
            }
            switch handler.readAll(into: buffer, from: done, isAbandoned: { [self] in connection.isClosed }) {
            case .unfinished(let done):
                readOnWorker(handler, from: done, into: buffer)
            case .finished(let error):
                if let error { handler.reply.fail(error, at: handler.request.offset, in: buffer) }
                let sent = connection.right.send(buffer, to: stream, accounts: connection.accounts)
                loop.run { [self] in
                    if let error { connection.report(error) }
                    workerFinished(buffer, sent)
                }
            }
        }
    }

    /// Answers with an error, and skips the payload.
    private func refuse(_ handler: RequestHandler, _ error: NBDProtocol.ErrorNumber, _ sentence: String)
        -> Connection.Step
    {
        reply(handler, payload: Int(handler.request.payloadLength(handler.session.mode))) {
            handler.reply.fail(error, sentence, in: $0)
        }
    }

    /// Adds a reply without data to the output.
    private func reply(_ handler: RequestHandler, payload: Int = 0, _ body: (PayloadBuffer) -> Void) -> Connection.Step
    {
        let length = Reply.longestWithoutData
        guard let buffer = connection.sendQueue.room(for: length, payload: memory.sizes.smallest) else {
            if connection.sendQueue.isFilling { return .flushFirst }
            // Workers have the memory of this client.
            return .waitForWorkers
        }
        body(buffer)
        return .handled(payload: payload)
    }

    /// Has a worker carry out what may wait or take long.
    private func offload(
        _ handler: RequestHandler, _ operation: RequestRules.Operation, filter: BlockStatusFilter? = nil,
        payload: Int = 0
    ) -> Connection.Step {
        guard workersBusy < requestsInFlight else { return .waitForWorkers }
        workersBusy += 1
        perform(handler, operation, filter: filter)
        return .handled(payload: payload)
    }

    /// Has a worker do it; it counts as busy already.
    ///
    /// - Parameter buffer: for the reply; nil: the worker takes one when it begins.
    func perform(
        _ handler: RequestHandler, _ operation: RequestRules.Operation, filter: BlockStatusFilter? = nil,
        from done: UInt64? = nil, into buffer: PayloadBuffer? = nil
    ) {
        onWorker { [memory] in
            if let buffer { memory.put(buffer) }
        } _: { [self] in
            guard let buffer = buffer ?? memory.takeSmallest() else {
                return starve(.operation(handler, operation, filter))
            }
            let progress = handler.perform(operation, filter: filter, from: done, into: buffer) { [self] in
                connection.isClosed
            }
            loop.run { [self] in
                switch progress {
                case .finished(let error):
                    if let error { connection.report(error) }
                    workerFinished(buffer)
                // Nobody waits for the rest.
                case .unfinished where connection.isClosed: workerFinished(buffer)
                case .unfinished(let done): perform(handler, operation, filter: filter, from: done, into: buffer)
                }
            }
        }
    }

    /// Answers here and now what the tables in memory tell, else has a worker look.
    private func blockStatus(_ handler: RequestHandler, isOne: Bool) -> Connection.Step {
        let length = handler.lengthOfStatus(extents: EventLoop.looksPerRequest)
        guard let buffer = connection.sendQueue.room(for: length, payload: memory.sizes.batch) else {
            return connection.sendQueue.isFilling ? .flushFirst : offload(handler, .blockStatus(isOne: isOne))
        }
        do throws(BlockError) {
            try handler.blockStatus(nil, isOne: isOne, into: buffer, loop.readMode)
        } catch {
            // A failure is reported by the worker, too.
            return offload(handler, .blockStatus(isOne: isOne))
        }
        return .handled()
    }

    private func filteredBlockStatus(_ handler: RequestHandler, isOne: Bool) -> Connection.Step {
        let head = handler.session.mode.requestLength
        let length = Int(handler.request.length)
        guard let bytes = connection.input.front(head + length) else { return .incomplete }
        guard let filter = BlockStatusFilter(decoding: bytes.dropFirst(head), handler.session) else {
            return refuse(handler, .invalid, "the payload asks for a context that was not chosen, or for one twice")
        }
        if case .refuse(let error, let sentence) = RequestRules.judge(filter, of: handler.request, handler.session) {
            return refuse(handler, error, sentence)
        }
        return offload(handler, .filteredBlockStatus(isOne: isOne), filter: filter, payload: length)
    }

    /// A buffer for a payload; nil when others must be given back first. A client always gets one.
    func takeBuffer(_ payload: Int) -> PayloadBuffer? {
        if let buffer = memory.take(payload: payload) { return buffer }
        guard workersBusy == 0, !connection.sendQueue.isFilling else { return nil }
        connection.sendQueue.release()
        return memory.takeSmallest()
    }
}
