// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Dispatch

extension Connection {
    /// Serves one request, or says what must happen first.
    func serve(_ request: NBDRequest, _ session: Session) -> Step {
        let handler = RequestHandler(session: session, request: request)
        switch RequestRules.judge(request, session) {
        case .perform where isStopping: return refuse(handler, .shutdown, "the server is being stopped")
        case .perform(.nothing):
            return reply(handler) { handler.reply.succeed(in: $0) }
        case .perform(.read): return read(handler)
        case .perform(.write(let isDurable)): return startWrite(handler, isDurable: isDurable)
        case .perform(.blockStatus(let isOne)): return blockStatus(handler, isOne: isOne)
        case .perform(.filteredBlockStatus(let isOne)): return filteredBlockStatus(handler, isOne: isOne)
        case .perform(let operation): return offload(handler, operation)
        case .refuse(let error, let sentence): return refuse(handler, error, sentence)
        case .disconnect:
            takeNoMore(nil)
            return .incomplete
        case .close(let reason):
            takeNoMore(reason)
            return .incomplete
        }
    }

    /// Answers with an error, and skips the payload.
    private func refuse(_ handler: RequestHandler, _ error: NBDProtocol.ErrorNumber, _ sentence: String) -> Step {
        reply(handler, payload: Int(handler.request.payloadLength(handler.session.mode))) {
            handler.reply.fail(error, sentence, in: $0)
        }
    }

    /// Adds a reply without data to the output.
    private func reply(_ handler: RequestHandler, payload: Int = 0, _ body: (PayloadBuffer) -> Void) -> Step {
        let length = Reply.longestWithoutData
        guard let buffer = sendQueue.room(for: length, payload: memory.sizes.smallest) else {
            if sendQueue.isFilling { return .flushFirst }
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
    ) -> Step {
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
            let progress = handler.perform(operation, filter: filter, from: done, into: buffer) { [self] in isClosed }
            loop.run { [self] in
                switch progress {
                case .finished(let error):
                    if let error { report(error) }
                    workerFinished(buffer)
                // Nobody waits for the rest.
                case .unfinished where isClosed: workerFinished(buffer)
                case .unfinished(let done): perform(handler, operation, filter: filter, from: done, into: buffer)
                }
            }
        }
    }

    /// Answers here and now what the tables in memory tell, else has a worker look.
    private func blockStatus(_ handler: RequestHandler, isOne: Bool) -> Step {
        let length = handler.lengthOfStatus(extents: EventLoop.looksPerRequest)
        guard let buffer = sendQueue.room(for: length, payload: memory.sizes.batch) else {
            return sendQueue.isFilling ? .flushFirst : offload(handler, .blockStatus(isOne: isOne))
        }
        do throws(BlockError) {
            try handler.blockStatus(nil, isOne: isOne, into: buffer, loop.readMode)
        } catch {
            // A failure is reported by the worker, too.
            return offload(handler, .blockStatus(isOne: isOne))
        }
        return .handled()
    }

    private func filteredBlockStatus(_ handler: RequestHandler, isOne: Bool) -> Step {
        let head = handler.session.mode.requestLength
        let length = Int(handler.request.length)
        guard let bytes = input.front(head + length) else { return .incomplete }
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
        guard workersBusy == 0, !sendQueue.isFilling else { return nil }
        sendQueue.release()
        return memory.takeSmallest()
    }
}
