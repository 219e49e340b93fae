// SPDX-License-Identifier: Apache-2.0

internal import BlockIO

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

extension Transmission {
    /// Serves a read for which there is no buffer of its size, once the replies before it have left.
    func startPieces(_ handler: RequestHandler) -> Connection.Step {
        guard !connection.sendQueue.isFilling else { return .flushFirst }
        // No more than one piece is in memory.
        guard workersBusy == 0 else { return .waitForWorkers }
        connection.sendQueue.release()
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
                    connection.close(Connection.noMemory)
                }
            }
            let length = min(rest, buffer.payloadCapacity)
            let part = pieces.done..<(pieces.done + length)
            var error: BlockError?
            if pieces.failure == nil {
                error = pieces.handler.read(
                    part, into: buffer, .mayBlock(Budget(looks: .max) { [self] in connection.isClosed }))
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
            connection.report(error)
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
                return connection.close("has got half a reply that cannot be completed")
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
        connection.sendQueue.enqueue(piece: buffer, isLast: isLast)
        connection.pump()
    }
}
