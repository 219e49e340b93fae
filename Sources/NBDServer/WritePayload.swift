// SPDX-License-Identifier: Apache-2.0

internal import BlockIO
import Dispatch

/// A write whose payload is received and written piece by piece.
///
/// Belongs to the queue of the connection's loop.
final class WritePayload: @unchecked Sendable {
    let handler: RequestHandler
    /// On disk before the reply.
    let isDurable: Bool
    /// Bytes of the payload that are in this piece, or were in one before.
    var received = 0
    /// What is being received, and how many bytes it is to have.
    var piece: (buffer: PayloadBuffer, length: Int)?
    /// Pieces that workers have.
    var pending = 0
    /// Why the first of the pieces failed, and where.
    var failure: (error: BlockError, offset: UInt64)?

    init(handler: RequestHandler, isDurable: Bool) {
        self.handler = handler
        self.isDurable = isDurable
    }

    /// In bytes; it has been judged to fit.
    var length: Int { Int(handler.request.length) }
    var isReceived: Bool { received == length }

    /// Is the whole payload in one piece?
    func isAll(in piece: PayloadBuffer) -> Bool { piece.count == length }

    /// Gives the memory back.
    func abandon(_ memory: PayloadShare) {
        if let piece { memory.put(piece.buffer) }
        piece = nil
    }

    /// Begins a piece: as much as fits, but where others follow it ends at a multiple of the preferred block size, so that no
    /// block is written in two parts.
    func begin(_ buffer: PayloadBuffer) {
        let start = handler.request.offset + UInt64(received)
        var count = min(buffer.payloadCapacity, length - received)
        let overhang = Int((start + UInt64(count)) % UInt64(handler.session.export.preferredBlockSize))
        if received + count < length, overhang < count { count -= overhang }
        piece = (buffer, count)
    }

    /// Receives what is to come of the piece straight into its place; nil when no piece has begun.
    func receive(from stream: any ByteStream) -> Socket.Progress? {
        guard let piece, piece.buffer.count < piece.length else { return nil }
        var progress = Socket.Progress.wouldBlock
        let before = piece.buffer.count
        piece.buffer.append(upTo: piece.length - before, dataCount: 0) { span in
            progress = stream.receive(into: &span)
            return if case .bytes(let count) = progress { count } else { 0 }
        }
        received += piece.buffer.count - before
        return progress
    }
}

extension Transmission {
    /// Takes the payload from now on.
    func startWrite(_ handler: RequestHandler, isDurable: Bool) -> Connection.Step {
        writePayload = WritePayload(handler: handler, isDurable: isDurable)
        return .handled()
    }

    /// Takes what is there of the payload, and has a worker write each piece that is complete.
    func receive(_ writePayload: WritePayload) -> Connection.Step {
        if writePayload.piece == nil {
            guard connection.input.count > 0 else {
                connection.watchForStall()
                return .incomplete
            }
            guard let buffer = nextPiece(writePayload) else {
                return connection.sendQueue.isFilling ? .flushFirst : .waitForWorkers
            }
            writePayload.begin(buffer)
        }
        guard let (buffer, length) = writePayload.piece else { return .incomplete }
        writePayload.received += connection.input.move(length - buffer.count, to: buffer)
        guard buffer.count == length else {
            connection.watchForStall()
            return .incomplete
        }
        writePayload.piece = nil
        if writePayload.isReceived { self.writePayload = nil }
        write(buffer, of: writePayload)
        return .handled()
    }

    private func nextPiece(_ writePayload: WritePayload) -> PayloadBuffer? {
        guard workersBusy < requestsInFlight else { return nil }
        return takeBuffer(min(writePayload.length - writePayload.received, memory.sizes.largestPiece))
    }

    private func write(_ piece: PayloadBuffer, of writePayload: WritePayload) {
        let offset = writePayload.received - piece.count
        // Of several pieces all are made durable at once, in the end.
        let options: WriteOptions = writePayload.isDurable && writePayload.isAll(in: piece) ? .durable : []
        writePayload.pending += 1
        workersBusy += 1
        // What is far away gains from as many requests at once as there are.
        guard writePayload.isAll(in: piece), piece.count <= SmallWrites.largest, session.export.lane == nil else {
            return writeAlone(piece, of: writePayload, offset, options)
        }
        let write = SmallWrites.Write(payload: writePayload, piece: piece)
        if writePayload.isDurable {
            if durableWrites.add(write) { callForDurableWrites() }
        } else if smallWrites.add(write) {
            callForSmallWrites()
        }
    }

    /// Has a worker write a piece; it counts as busy already. Called on any thread.
    func writeAlone(_ piece: PayloadBuffer, of writePayload: WritePayload, _ offset: Int, _ options: WriteOptions) {
        onWorker { [memory] in
            memory.put(piece)
        } _: { [self] in
            let error = piece.withFilled { writePayload.handler.write(&$0, part: offset, options) }
            loop.run { [self] in written(piece, of: writePayload, offset, error) }
        }
    }

    /// Called on the loop.
    func written(_ piece: PayloadBuffer, of writePayload: WritePayload, _ offset: Int, _ error: BlockError?) {
        writePayload.pending -= 1
        let isWhole = writePayload.isAll(in: piece)
        if let error {
            connection.report(error)
            let place = writePayload.handler.request.offset + UInt64(offset)
            if writePayload.failure.map({ place < $0.offset }) ?? true { writePayload.failure = (error, place) }
        }
        piece.reset()
        guard !connection.isClosed, writePayload.isReceived, writePayload.pending == 0 else {
            workersBusy -= 1
            memory.put(piece)
            return connection.isClosed ? () : connection.pump()
        }
        let handler = writePayload.handler
        if let failure = writePayload.failure {
            handler.reply.fail(failure.error, at: failure.offset, in: piece)
            return workerFinished(piece)
        }
        connection.count(written: handler.request.length)
        guard writePayload.isDurable, !isWhole else {
            handler.reply.succeed(in: piece)
            return workerFinished(piece)
        }
        perform(handler, .flush, into: piece)
    }
}
