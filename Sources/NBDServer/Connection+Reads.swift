// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Dispatch

/// A read that is too large for the buffers of the moment and is served piece by piece.
struct PiecewiseRead {
    let handler: RequestHandler
    /// Bytes of the data that have been put into a buffer.
    var done = 0
    /// A worker fills the next piece.
    var isWaiting = false
    /// Why and where data could not be read in the middle of a chunk, which must be completed all the same.
    var failure: (error: BlockError, offset: UInt64)?

    /// In bytes; it has been judged to fit.
    var length: Int { Int(handler.request.length) }
}

extension Connection {
    /// Serves a read here and now if that needs no waiting.
    func read(_ handler: RequestHandler) -> Step {
        let length = Int(handler.request.length)
        let sizes = memory.sizes
        guard length <= sizes.inlineLimit else { return offloadRead(handler) }
        // Another request of the client is there behind this one.
        let hasMore = input.count >= 2 * handler.session.mode.requestLength
        if length >= sizes.worthSharing, hasMore, workersBusy < requestsInFlight,
            context.processors.take()
        {
            workersBusy += 1
            readOnWorker(handler, isShared: true)
            return .handled()
        }
        let total = max(handler.reply.length(ofData: length), Reply.longestWithoutData)
        guard let buffer = sendQueue.room(for: total, payload: max(length, sizes.batch)) else {
            return startPieces(handler)
        }
        guard let error = handler.read(0..<length, into: buffer, loop.readMode) else { return .handled() }
        if error.code == .wouldBlock { return offloadRead(handler) }
        report(error)
        handler.reply.fail(error, at: handler.request.offset, in: buffer)
        return .handled()
    }

    private func offloadRead(_ handler: RequestHandler) -> Step {
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
        onWorker { [memory, processors = context.processors] in
            if let buffer { memory.put(buffer) }
            if isShared { processors.leave() }
        } _: { [self, stream] in
            defer { if isShared { context.processors.leave() } }
            guard let buffer = buffer ?? memory.take(payload: Int(handler.request.length)) else {
                return starve(.read(handler))
            }
            switch handler.readAll(into: buffer, from: done, isAbandoned: { [self] in isClosed }) {
            case .unfinished(let done):
                readOnWorker(handler, from: done, into: buffer)
            case .finished(let error):
                if let error { handler.reply.fail(error, at: handler.request.offset, in: buffer) }
                let sent = sendFromWorker(buffer, to: stream)
                loop.run { [self] in
                    if let error { report(error) }
                    workerFinished(buffer, sent)
                }
            }
        }
    }

    /// Serves a read for which there is no buffer of its size, once the replies before it have left.
    private func startPieces(_ handler: RequestHandler) -> Step {
        guard !sendQueue.isFilling else { return .flushFirst }
        // No more than one piece is in memory.
        guard workersBusy == 0 else { return .waitForWorkers }
        sendQueue.release()
        pieces = PiecewiseRead(handler: handler)
        return .handled()
    }

    /// Has a worker read the next piece.
    func readPiece(_ pieces: PiecewiseRead) {
        let rest = pieces.length - pieces.done
        self.pieces?.isWaiting = true
        workersBusy += 1
        onWorker { [self] in
            guard let buffer = memory.take(payload: min(rest, memory.sizes.largestPiece)) ?? memory.takeSmallest()
            else {
                return loop.run { [self] in
                    workersBusy -= 1
                    close(Self.noMemory)
                }
            }
            let length = min(rest, buffer.payloadCapacity)
            let part = pieces.done..<(pieces.done + length)
            var error: BlockError?
            if pieces.failure == nil {
                error = pieces.handler.read(part, into: buffer, .mayBlock(Budget(looks: .max) { [self] in isClosed }))
            } else {
                pieces.handler.pad(part, into: buffer)
            }
            loop.run { [self, error] in pieceFinished(buffer, part, error) }
        }
    }

    private func pieceFinished(_ buffer: PayloadBuffer, _ part: Range<Int>, _ error: BlockError?) {
        // The connection has been closed.
        guard var pieces else { return workerFinished(buffer) }
        let handler = pieces.handler
        let isOneChunk = handler.reply.mode != .simple && !handler.reply.isFragmented
        if let error {
            report(error)
            let offset = handler.request.offset + UInt64(part.lowerBound)
            if part.lowerBound == 0 || handler.reply.isFragmented {
                handler.reply.fail(error, at: offset, in: buffer)
                pieces.done = pieces.length
            } else if isOneChunk {
                handler.pad(part, into: buffer)
                pieces.failure = (error, offset)
            } else {
                // The head of the reply, which says success, has left: only the end of the connection can say otherwise.
                workersBusy -= 1
                memory.put(buffer)
                return close("has got half a reply that cannot be completed")
            }
        }
        pieces.isWaiting = false
        pieces.done = max(pieces.done, part.upperBound)
        let isLast = pieces.done == pieces.length
        if isLast {
            self.pieces = nil
            if let failure = pieces.failure {
                handler.reply.fail(failure.error, at: failure.offset, in: buffer)
            } else if isOneChunk, part.lowerBound > 0 {
                handler.reply.succeed(in: buffer)
            }
        } else {
            self.pieces = pieces
        }
        workersBusy -= 1
        sendQueue.enqueue(piece: buffer, isLast: isLast)
        pump()
    }
}
